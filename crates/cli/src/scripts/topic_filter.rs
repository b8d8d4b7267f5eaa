//! Which topics are meant: `--topic` is a regular expression in most of Kafka's scripts.

use regex::Regex;

use super::{Outcome, Stop};

/// A regular expression that a whole name has to match. Commas separate alternatives.
pub(super) struct TopicFilter(Regex);

impl TopicFilter {
    pub(super) fn new(text: &str) -> Outcome<Self> {
        let text = text.trim().replace(',', "|").replace(' ', "");
        let text = text.trim_matches(['"', '\'']);
        Regex::new(&format!("^(?:{text})$"))
            .map(Self)
            .map_err(|_why| Stop::failed(format!("{text} is an invalid regex.")))
    }

    pub(super) fn admits(&self, topic: &str) -> bool {
        self.0.is_match(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_name_matches_one_of_the_alternatives() {
        let filter = TopicFilter::new("orders, pay.*").unwrap_or_else(|stop| panic!("{stop:?}"));
        assert!(filter.admits("orders") && filter.admits("payments"));
        assert!(!filter.admits("orders2"));
        assert!(TopicFilter::new("(").is_err());
    }
}
