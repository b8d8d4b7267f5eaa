//! Who votes in the metadata quorum (KIP-853): the administrator takes votes away and gives them back, and replaces a voter whose
//! disk was replaced.

use std::path::Path;

use ottla_client::{Admin, ClientError, QuorumDescription};
use ottla_protocol::{BrokerId, Uuid, parse_uuid};

use super::{DATA, Plan};
use crate::node::Node;
use crate::rng::SimRng;

/// The voters as the administrator wants them.
pub(super) struct Voters {
    /// By id, from 1.
    machines: Vec<Node>,
    /// Has no vote for now.
    retired: Option<BrokerId>,
}

/// What he saw, and did about it.
pub(super) struct Look {
    pub(super) leader: i32,
    pub(super) ill: Vec<String>,
    pub(super) changed: Option<&'static str>,
}

/// What is to be done about a voter.
#[derive(Debug)]
enum Step {
    /// It votes, with a directory that is gone.
    Remove(BrokerId, Uuid),
    Add(BrokerId, Uuid),
}

impl Voters {
    pub(super) fn new(machines: Vec<Node>) -> Self {
        Self { machines, retired: None }
    }

    /// From now on nobody is without a vote.
    pub(super) fn all_shall_vote(&mut self) {
        self.retired = None;
    }

    /// Takes the vote from a node, or says that it shall have it again.
    pub(super) async fn retire(
        &mut self,
        admin: &Admin,
        rng: &SimRng,
    ) -> Result<String, ClientError> {
        if let Some(back) = self.retired.take() {
            return Ok(format!("{back} shall vote again"));
        }
        let quorum = admin.describe_quorum().await?;
        if let Some(step) = self.next_step(&quorum) {
            return Ok(format!("not before {step:?}"));
        }
        let voter = &quorum.voters[rng.below(quorum.voters.len() as u64) as usize];
        // Also where no answer comes: it may be done late.
        self.retired = Some(voter.id);
        admin.remove_raft_voter(voter.id, voter.directory_id).await?;
        Ok(format!("{} votes no more", voter.id))
    }

    /// Looks who votes, and does the first thing that is to be done about it.
    pub(super) async fn mend(&self, admin: &Admin) -> Result<Look, ClientError> {
        let quorum = admin.describe_quorum().await?;
        let (leader, step) = (quorum.leader.0, self.next_step(&quorum));
        let changed = match &step {
            None => None,
            Some(Step::Remove(id, directory)) => {
                admin.remove_raft_voter(*id, *directory).await?;
                Some("lost-voters-removed")
            }
            Some(Step::Add(id, directory)) => {
                let listener = ("CONTROLLER".to_owned(), Plan::name(id.0 as u64), 9093);
                admin.add_raft_voter(*id, *directory, &[listener]).await?;
                Some("voters-added")
            }
        };
        let retired = self.retired.map(|id| format!("{id} has no vote for now"));
        let ill = step.map(|step| format!("{step:?}")).into_iter().chain(retired).collect();
        Ok(Look { leader, ill, changed })
    }

    fn next_step(&self, quorum: &QuorumDescription) -> Option<Step> {
        let ids = (1..=self.machines.len() as i32).map(BrokerId);
        ids.zip(&self.machines).find_map(|(id, machine)| {
            // Nothing is known of a node that never came up with the disk it has.
            let own = directory_id(machine)?;
            match quorum.voters.iter().find(|voter| voter.id == id) {
                Some(voter) if voter.directory_id != own => {
                    Some(Step::Remove(id, voter.directory_id))
                }
                Some(_) => None,
                None if self.retired == Some(id) => None,
                None => Some(Step::Add(id, own)),
            }
        })
    }
}

/// `directory.id` of `meta.properties`.
fn directory_id(machine: &Node) -> Option<Uuid> {
    let properties = machine.read(&Path::new(DATA).join("meta.properties")).ok()?;
    let properties = String::from_utf8(properties).ok()?;
    let id = properties.lines().find_map(|line| line.strip_prefix("directory.id="))?;
    parse_uuid(id).ok()
}
