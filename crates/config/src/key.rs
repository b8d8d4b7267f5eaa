//! What the table says of one key, and how its value is read.

use std::fmt;

use crate::ConfigProblem;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct ConfigKey {
    /// Kafka's name, to the letter.
    pub name: &'static str,
    /// What its value is.
    pub config_type: ConfigType,
    /// The value when nobody gives one; `None` is Kafka's null.
    pub default: Option<&'static str>,
    /// Which values of the type are accepted.
    pub valid: Valid,
    /// How much attention it deserves.
    pub importance: Importance,
    /// Whether it may change while the node runs.
    pub scope: DynamicScope,
    /// One sentence, with the unit.
    pub doc: &'static str,
    /// Keys that speak for this one when it is not given, the strongest first.
    pub alternatives: &'static [Alternative],
    /// For a topic key: the broker key that gives its default.
    pub broker_twin: Option<&'static str>,
    /// Whether Ottla acts on it. A key that is known but not yet used warns when set.
    pub used: bool,
    /// Whether Kafka does not know it.
    pub own: bool,
    /// Whether Ottla reads it only at its start, whatever its scope.
    pub at_start: bool,
}

/// A key that speaks for another, in a coarser unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// Its name.
    pub name: &'static str,
    /// What its number is multiplied by; 1 takes the value as it is.
    pub factor: i64,
}

/// The type of a value; the numbers are those of DescribeConfigs (KIP-569).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigType {
    /// `true` or `false`.
    Boolean = 1,
    /// Text.
    String = 2,
    /// 32 bits.
    Int = 3,
    /// 16 bits.
    Short = 4,
    /// 64 bits.
    Long = 5,
    /// A floating-point number.
    Double = 6,
    /// Texts separated by commas.
    List = 7,
    /// The name of a Java class.
    Class = 8,
    /// Text that is never shown.
    Password = 9,
}

/// Which values of its type a key accepts.
#[derive(Clone, Copy, Debug)]
pub enum Valid {
    /// All.
    Any,
    /// Whole numbers from here on.
    AtLeast(i64),
    /// Whole numbers between these, both included.
    Between(i64, i64),
    /// Floating-point numbers between these, both included.
    Fraction(f64, f64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of these words.
    EachOf(&'static [&'static str]),
    /// Something else, which the text names.
    Rule(fn(&str) -> bool, &'static str),
}

/// How much attention a key deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Importance {
    /// Everyone should look at it.
    High,
    /// Some should.
    Medium,
    /// Few should.
    Low,
}

/// Whether a key may change while the node runs (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DynamicScope {
    /// Only at start.
    ReadOnly,
    /// For one broker.
    PerBroker,
    /// For one broker or for all of them.
    ClusterWide,
}

/// A value that was read and found valid.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigValue {
    /// Not given, and without default.
    Null,
    /// Of a boolean key.
    Boolean(bool),
    /// Of a short, int or long key.
    Number(i64),
    /// Of a double key.
    Double(f64),
    /// Of a string, class or password key.
    Text(String),
    /// Of a list key; blank elements are left out.
    List(Vec<String>),
}

pub(crate) const fn key(
    config_type: ConfigType,
    name: &'static str,
    default: Option<&'static str>,
    valid: Valid,
    doc: &'static str,
) -> ConfigKey {
    ConfigKey {
        name,
        config_type,
        default,
        valid,
        importance: Importance::Medium,
        scope: DynamicScope::ReadOnly,
        doc,
        alternatives: &[],
        broker_twin: None,
        used: true,
        own: false,
        at_start: false,
    }
}

/// One shorthand per type, so that a row of the table fits on a line or two.
macro_rules! shorthands {
    ($($name:ident $or_null:ident $config_type:ident),* $(,)?) => {$(
        #[allow(dead_code, reason = "not every type has a key with a default")]
        pub(crate) const fn $name(
            name: &'static str,
            default: &'static str,
            valid: Valid,
            doc: &'static str,
        ) -> ConfigKey {
            key(ConfigType::$config_type, name, Some(default), valid, doc)
        }

        #[allow(dead_code, reason = "nor one without")]
        pub(crate) const fn $or_null(
            name: &'static str,
            valid: Valid,
            doc: &'static str,
        ) -> ConfigKey {
            key(ConfigType::$config_type, name, None, valid, doc)
        }
    )*};
}

shorthands! {
    boolean boolean_or_null Boolean,
    string string_or_null String,
    int int_or_null Int,
    short short_or_null Short,
    long long_or_null Long,
    double double_or_null Double,
    list list_or_null List,
    class class_or_null Class,
    password password_or_null Password,
}

impl ConfigKey {
    pub(crate) const fn high(mut self) -> Self {
        self.importance = Importance::High;
        self
    }

    pub(crate) const fn low(mut self) -> Self {
        self.importance = Importance::Low;
        self
    }

    pub(crate) const fn per_broker(mut self) -> Self {
        self.scope = DynamicScope::PerBroker;
        self
    }

    pub(crate) const fn cluster_wide(mut self) -> Self {
        self.scope = DynamicScope::ClusterWide;
        self
    }

    pub(crate) const fn else_by(mut self, alternatives: &'static [Alternative]) -> Self {
        self.alternatives = alternatives;
        self
    }

    pub(crate) const fn not_yet(mut self) -> Self {
        self.used = false;
        self
    }

    pub(crate) const fn ottla(mut self) -> Self {
        self.own = true;
        self
    }

    pub(crate) const fn at_start(mut self) -> Self {
        self.at_start = true;
        self
    }

    pub(crate) const fn twin(mut self, broker_key: &'static str) -> Self {
        self.broker_twin = Some(broker_key);
        self
    }

    /// Whether IncrementalAlterConfigs may APPEND to and SUBTRACT from it (KIP-339).
    pub fn is_list(&self) -> bool {
        self.config_type == ConfigType::List
    }

    /// Whether a change takes effect while the node runs.
    pub fn is_dynamic(&self) -> bool {
        self.scope != DynamicScope::ReadOnly && self.used && !self.at_start
    }

    /// Reads a value that is to be set for one broker, or for all of them, while they run (KIP-226).
    pub(crate) fn parse_dynamic(
        &self,
        text: &str,
        all_brokers: bool,
    ) -> Result<ConfigValue, ConfigProblem> {
        let key = || self.name.to_owned();
        match self.scope {
            DynamicScope::ReadOnly => return Err(ConfigProblem::ReadOnly { key: key() }),
            DynamicScope::PerBroker if all_brokers => {
                return Err(ConfigProblem::PerBrokerOnly { key: key() });
            }
            DynamicScope::PerBroker | DynamicScope::ClusterWide => {}
        }
        if !self.used {
            return Err(ConfigProblem::NotYetUsed { key: key() });
        }
        if self.at_start {
            return Err(ConfigProblem::ReadAtStart { key: key() });
        }
        self.parse(text).map_err(|accepted| self.invalid(text, accepted))
    }

    pub(crate) fn invalid(&self, text: &str, accepted: String) -> ConfigProblem {
        let value = if self.is_sensitive() { "(hidden)" } else { text.trim() };
        ConfigProblem::InvalidValue { key: self.name.to_owned(), value: value.to_owned(), accepted }
    }

    /// Whether its value is never shown.
    pub fn is_sensitive(&self) -> bool {
        self.config_type == ConfigType::Password
    }

    /// Reads a value, or says what would have been accepted.
    pub fn parse(&self, text: &str) -> Result<ConfigValue, String> {
        let text = text.trim();
        let value = match self.config_type {
            ConfigType::Boolean => match text.to_ascii_lowercase().as_str() {
                "true" => Some(ConfigValue::Boolean(true)),
                "false" => Some(ConfigValue::Boolean(false)),
                _ => None,
            },
            ConfigType::Short => text.parse::<i16>().ok().map(|n| ConfigValue::Number(n.into())),
            ConfigType::Int => text.parse::<i32>().ok().map(|n| ConfigValue::Number(n.into())),
            ConfigType::Long => text.parse::<i64>().ok().map(ConfigValue::Number),
            ConfigType::Double => {
                text.parse::<f64>().ok().filter(|n| !n.is_nan()).map(ConfigValue::Double)
            }
            ConfigType::List => Some(ConfigValue::List(list_elements(text).collect())),
            ConfigType::String | ConfigType::Class | ConfigType::Password => {
                Some(ConfigValue::Text(text.to_owned()))
            }
        };
        value.filter(|value| self.valid.accepts(text, value)).ok_or_else(|| self.accepted())
    }

    /// What the key accepts, as the end of a sentence that starts with "must be".
    pub fn accepted(&self) -> String {
        let whole = match self.config_type {
            ConfigType::Boolean => return "true or false".to_owned(),
            ConfigType::Short => "a whole number of 16 bits",
            ConfigType::Int => "a whole number of 32 bits",
            ConfigType::Long => "a whole number of 64 bits",
            ConfigType::Double => "a number",
            ConfigType::List => "a list separated by commas",
            ConfigType::String | ConfigType::Class | ConfigType::Password => "text",
        };
        match self.valid {
            Valid::Any => whole.to_owned(),
            Valid::AtLeast(low) => format!("{whole}, at least {low}"),
            Valid::Between(low, high) => format!("{whole} from {low} to {high}"),
            Valid::Fraction(low, high) => format!("{whole} from {low} to {high}"),
            Valid::OneOf(words) => format!("one of {}", words.join(", ")),
            Valid::EachOf(words) => format!("a list of {}", words.join(", ")),
            Valid::Rule(_, text) => text.to_owned(),
        }
    }
}

impl Valid {
    fn accepts(&self, text: &str, value: &ConfigValue) -> bool {
        match (self, value) {
            (Self::Any, _) => true,
            (Self::Rule(rule, _), _) => rule(text),
            (Self::AtLeast(low), ConfigValue::Number(n)) => n >= low,
            (Self::Between(low, high), ConfigValue::Number(n)) => (low..=high).contains(&n),
            (Self::Fraction(low, high), ConfigValue::Double(n)) => (low..=high).contains(&n),
            (Self::OneOf(words), ConfigValue::Text(word)) => words.contains(&word.as_str()),
            (Self::EachOf(words), ConfigValue::List(list)) => {
                list.iter().all(|word| words.contains(&word.as_str()))
            }
            (
                Self::AtLeast(_)
                | Self::Between(..)
                | Self::Fraction(..)
                | Self::OneOf(_)
                | Self::EachOf(_),
                _,
            ) => false,
        }
    }
}

/// The elements of a list value, without blanks.
pub(crate) fn list_elements(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(',').map(str::trim).filter(|element| !element.is_empty()).map(str::to_owned)
}

impl fmt::Display for ConfigType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Int => "int",
            Self::Short => "short",
            Self::Long => "long",
            Self::Double => "double",
            Self::List => "list",
            Self::Class => "class",
            Self::Password => "password",
        })
    }
}

impl fmt::Display for Importance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        })
    }
}

impl fmt::Display for DynamicScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "read-only",
            Self::PerBroker => "per-broker",
            Self::ClusterWide => "cluster-wide",
        })
    }
}
