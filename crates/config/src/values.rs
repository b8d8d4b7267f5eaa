//! Typed reading of values.

use std::time::Duration;

use crate::ConfigValue;

/// Named values that were checked against the table: a wrong name or type here is a bug.
pub trait Values {
    /// What the key comes to, whoever gave it.
    fn effective(&self, name: &str) -> ConfigValue;

    /// A number that fits its field: the table's range sees to it.
    fn number<N: TryFrom<i64>>(&self, name: &str) -> N {
        let ConfigValue::Number(number) = self.effective(name) else {
            panic!("bug: {name} is not a number");
        };
        N::try_from(number).unwrap_or_else(|_| panic!("bug: the field of {name} is too narrow"))
    }

    /// A number that need not be given.
    fn number_if_given<N: TryFrom<i64>>(&self, name: &str) -> Option<N> {
        (self.effective(name) != ConfigValue::Null).then(|| self.number(name))
    }

    /// A limit; a negative number is none.
    fn limit<N: TryFrom<i64>>(&self, name: &str) -> Option<N> {
        (self.number::<i64>(name) >= 0).then(|| self.number(name))
    }

    /// A time; never negative.
    fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(self.number(name))
    }

    /// A time; a negative number and the largest one mean never.
    fn millis_or_never(&self, name: &str) -> Option<Duration> {
        let number: i64 = self.number(name);
        u64::try_from(number).ok().filter(|_| number != i64::MAX).map(Duration::from_millis)
    }

    /// True or false.
    fn boolean(&self, name: &str) -> bool {
        let ConfigValue::Boolean(value) = self.effective(name) else {
            panic!("bug: {name} is not a boolean");
        };
        value
    }

    /// A floating-point number.
    fn double(&self, name: &str) -> f64 {
        let ConfigValue::Double(value) = self.effective(name) else {
            panic!("bug: {name} is not a double");
        };
        value
    }

    /// A text; null and blank are none.
    fn text(&self, name: &str) -> Option<String> {
        let text = match self.effective(name) {
            ConfigValue::Null => None,
            ConfigValue::Text(text) => Some(text),
            ConfigValue::Boolean(_)
            | ConfigValue::Number(_)
            | ConfigValue::Double(_)
            | ConfigValue::List(_) => panic!("bug: {name} is not a text"),
        };
        text.filter(|text| !text.is_empty())
    }

    /// A list; null is the empty list.
    fn list(&self, name: &str) -> Vec<String> {
        match self.effective(name) {
            ConfigValue::Null => Vec::new(),
            ConfigValue::List(list) => list,
            ConfigValue::Boolean(_)
            | ConfigValue::Number(_)
            | ConfigValue::Double(_)
            | ConfigValue::Text(_) => panic!("bug: {name} is not a list"),
        }
    }
}
