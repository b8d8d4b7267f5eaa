//! Times, sizes and bytes as people read them.

use ottla_protocol::Timestamp;
use serde_json::{Value, json};

/// `2026-11-20T19:30:00.123Z`, or `none`.
pub(crate) fn time(timestamp: Timestamp) -> String {
    const DAY: i64 = 86_400_000;
    if timestamp.0 < 0 {
        return "none".to_owned();
    }
    let (days, millis) = (timestamp.0 / DAY, timestamp.0 % DAY);
    // Days since 0000-03-01 in eras of 400 years: a leap day ends its year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z")
}

/// `1.5 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    match unit {
        "B" => format!("{bytes} B"),
        _ => format!("{value:.1} {unit}"),
    }
}

/// `1 batch`, `2 batches`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A key or value: quoted where it is text, in hexadecimal digits where it is not.
pub(crate) fn bytes(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "null".to_owned(),
        Some(bytes) => match str::from_utf8(bytes) {
            Ok(text) => format!("{text:?}"),
            Err(_) => format!("0x{}", hex(bytes)),
        },
    }
}

/// A key or value in JSON: a string where it is text, else `{"hex": …}`.
pub(crate) fn json_bytes(bytes: Option<&[u8]>) -> Value {
    match bytes {
        None => Value::Null,
        Some(bytes) => match str::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(_) => json!({ "hex": hex(bytes) }),
        },
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_795_202_400_123, "2026-11-20T19:20:00.123Z"),
            (-1, "none"),
        ] {
            assert_eq!(time(Timestamp(millis)), text);
        }
        assert!(time(Timestamp(i64::MAX)).ends_with('Z'));
    }

    #[test]
    fn bytes_are_text_where_they_can_be() {
        assert_eq!(bytes(Some("a\"ü".as_bytes())), "\"a\\\"ü\"");
        assert_eq!(bytes(Some(&[0xff, 0])), "0xff00");
        assert_eq!(bytes(None), "null");
        assert_eq!((size(1023), size(1536)), ("1023 B".to_owned(), "1.5 KiB".to_owned()));
    }
}
