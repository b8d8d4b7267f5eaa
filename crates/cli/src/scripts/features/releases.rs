//! Which levels of features belong to which release of Kafka (KIP-584, KIP-1022).

use crate::scripts::{Outcome, Stop};

/// The feature whose levels have the names of releases.
pub(super) const METADATA: &str = "metadata.version";
/// These names, from level 7 on.
const RELEASES: [&str; 25] = [
    "3.3-IV3", "3.4-IV0", "3.5-IV0", "3.5-IV1", "3.5-IV2", "3.6-IV0", "3.6-IV1", "3.6-IV2",
    "3.7-IV0", "3.7-IV1", "3.7-IV2", "3.7-IV3", "3.7-IV4", "3.8-IV0", "3.9-IV0", "4.0-IV0",
    "4.0-IV1", "4.0-IV2", "4.0-IV3", "4.1-IV0", "4.1-IV1", "4.2-IV0", "4.2-IV1", "4.3-IV0",
    "4.4-IV0",
];
const FIRST_LEVEL: i16 = 7;
/// The last that is released.
const LATEST: i16 = 30;

/// A feature beside `metadata.version`.
pub(super) struct Feature {
    pub(super) name: &'static str,
    /// Its levels from 1 on: the level of `metadata.version` that brings each, and the one it needs.
    levels: &'static [(i16, Option<i16>)],
}

/// In Kafka's order.
pub(super) const FEATURES: [Feature; 6] = [
    Feature { name: "kraft.version", levels: &[(21, None)] },
    Feature { name: "transaction.version", levels: &[(24, None), (24, None)] },
    Feature { name: "group.version", levels: &[(22, None)] },
    Feature { name: "eligible.leader.replicas.version", levels: &[(26, Some(23))] },
    Feature { name: "share.version", levels: &[(28, None)] },
    Feature { name: "streams.version", levels: &[(29, None)] },
];

impl Feature {
    /// Its level in a cluster with this level of `metadata.version`.
    pub(super) fn level_at(&self, metadata: i16) -> i16 {
        let reached = self.levels.iter().take_while(|(since, _)| *since <= metadata);
        i16::try_from(reached.count()).unwrap_or(i16::MAX)
    }

    /// What a level needs of `metadata.version`.
    pub(super) fn needs(&self, level: i16) -> Outcome<Option<i16>> {
        let at = usize::try_from(level).ok().filter(|at| *at <= self.levels.len());
        let at = at.ok_or_else(|| {
            Stop::failed(format!("No feature:{} with feature level {level}", self.name))
        })?;
        Ok(at.checked_sub(1).and_then(|at| self.levels.get(at)).and_then(|(_, needs)| *needs))
    }
}

/// The name of a level of `metadata.version`.
pub(super) fn name_of(level: i16) -> Option<&'static str> {
    let at = usize::try_from(level.checked_sub(FIRST_LEVEL)?).ok()?;
    RELEASES.get(at).copied()
}

/// The newest release.
pub(super) fn latest() -> &'static str {
    name_of(LATEST).unwrap_or_default()
}

/// The level of `metadata.version` of a release: `4.0-IV3`, or `4.0` and `4.0.1` for its last.
pub(super) fn level_of(release: &str) -> Outcome<i16> {
    let end = release.match_indices('.').nth(1).map_or(release.len(), |(at, _)| at);
    let key = release.get(..end).unwrap_or(release);
    let levels = (FIRST_LEVEL..).zip(RELEASES);
    let found = levels.filter(|(level, name)| {
        *name == key || *level <= LATEST && name.split_once('-').is_some_and(|(it, _)| it == key)
    });
    found.last().map(|(level, _)| level).ok_or_else(|| {
        Stop::failed(format!(
            "Unknown metadata.version '{release}'. Supported metadata.version are: {}",
            RELEASES.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_the_last_of_its_levels() {
        let level = |release: &str| level_of(release).ok();
        assert_eq!(level("4.0"), Some(25));
        assert_eq!(level("4.0.1"), Some(25));
        assert_eq!(level("4.0-IV1"), Some(23));
        assert_eq!(level("4.4-IV0"), Some(31));
        assert_eq!(level("4.4"), None);
        assert_eq!(name_of(level(latest()).unwrap_or_default()), Some("4.3-IV0"));
        assert_eq!(name_of(i16::MIN), None);
    }

    #[test]
    fn a_feature_comes_with_its_release() {
        let levels = |metadata| FEATURES.map(|feature| feature.level_at(metadata));
        assert_eq!(levels(7), [0; 6]);
        assert_eq!(levels(24), [1, 2, 1, 0, 0, 0]);
        assert_eq!(levels(30), [1, 2, 1, 1, 1, 1]);
    }
}
