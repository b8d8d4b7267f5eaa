//! Rows in columns, as `printf` with `%-15s` makes them.

/// Cells, each filled up to its width and one blank behind it; the last is as long as it is.
///
/// A width of 0 leaves a cell as it is.
pub(super) fn row<T: AsRef<str>>(widths: &[usize], cells: &[T]) -> String {
    let padded = cells.iter().enumerate().map(|(at, cell)| {
        let width = widths.get(at).copied().unwrap_or(0);
        format!("{:<width$}", cell.as_ref())
    });
    padded.collect::<Vec<_>>().join(" ")
}

/// The width of a column: that of its widest cell, and at least `least`.
pub(super) fn width<'a>(least: usize, cells: impl Iterator<Item = &'a str>) -> usize {
    cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(least)
}
