//! Points in time and spans, as people write them.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo};
use ottla_protocol::Timestamp;

/// What [`parse_time`] takes, for errors and help.
pub(crate) const TIMES: &str = "milliseconds since 1970 (1795202400000), a time (2026-11-20T19:20:00Z; UTC unless it says otherwise), \
     or a span before now (1h, 2d 30m, PT15M)";

/// A point in time, from what [`TIMES`] says; `now` is where spans are counted from.
pub(crate) fn parse_time(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(millis) = text.parse::<i64>() {
        return if millis >= 0 {
            Ok(Timestamp(millis))
        } else {
            Err(format!("{text} is before 1970"))
        };
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Timestamp(time.as_millisecond()));
    }
    if let Ok(time) = text.parse::<DateTime>() {
        let zoned = time.to_zoned(TimeZone::UTC).map_err(|error| error.to_string())?;
        return Ok(Timestamp(zoned.timestamp().as_millisecond()));
    }
    let span = parse_span(text).map_err(|_| format!("{text:?} is no time: give {TIMES}"))?;
    Ok(Timestamp(now.0.saturating_sub(span).max(0)))
}

/// A span in milliseconds: `1h`, `2d 30m`, or ISO 8601 as Kafka's tools have it (`P1DT2H`).
pub(crate) fn parse_span(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no span: give one as 1h, 2d 30m or P1DT2H");
    let span: Span = text.trim().parse().map_err(|_| wrong())?;
    let days = SpanRelativeTo::days_are_24_hours();
    let duration: SignedDuration = span.to_duration(days).map_err(|_| wrong())?;
    let millis = i64::try_from(duration.as_millis()).map_err(|_| wrong())?;
    if millis < 0 { Err(wrong()) } else { Ok(millis) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_202_400_000);

    #[test]
    fn times_are_read_in_every_form() {
        for (text, millis) in [
            ("1795202400123", 1_795_202_400_123),
            ("2026-11-20T19:20:00Z", NOW.0),
            ("2026-11-20T20:20:00+01:00", NOW.0),
            ("2026-11-20T19:20:00.5", NOW.0 + 500),
            ("2026-11-20 19:20", NOW.0),
            ("2026-11-20", 1_795_132_800_000),
            ("1h", NOW.0 - 3_600_000),
            ("1d 30m", NOW.0 - 88_200_000),
            ("PT15M", NOW.0 - 900_000),
        ] {
            assert_eq!(parse_time(text, NOW), Ok(Timestamp(millis)), "{text}");
        }
        for text in ["", "yesterday", "-5", "2026-13-01", "-1h"] {
            assert!(parse_time(text, NOW).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_are_milliseconds() {
        assert_eq!(parse_span("P1DT1S"), Ok(86_401_000));
        assert_eq!(parse_span("1.5s"), Ok(1500));
        assert!(parse_span("5").is_err());
        assert!(parse_span("P1M").is_err(), "a month has no length");
    }
}
