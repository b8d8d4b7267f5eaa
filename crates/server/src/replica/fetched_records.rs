//! Records on their way to a client: where they lie, not what they are.

use ottla_protocol::fetch::FetchRecords;
use ottla_storage::FileSlice;

use crate::network::Part;

/// Whole batches of one partition, as ranges of its segments.
#[derive(Clone, Default)]
pub(crate) struct FetchedRecords {
    slices: Vec<FileSlice>,
    len: usize,
}

impl FetchedRecords {
    pub(crate) fn new(slices: Vec<FileSlice>) -> Self {
        let len = slices.iter().map(|slice| slice.len).sum();
        Self { slices, len }
    }

    /// The ranges, for the wire.
    pub(crate) fn into_parts(self) -> impl Iterator<Item = Part> {
        self.slices.into_iter().map(Part::File)
    }
}

impl FetchRecords for FetchedRecords {
    fn len(&self) -> usize {
        self.len
    }
}
