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

/// A table as Kafka's newer scripts print it: each cell as wide as its column, and a tab behind it.
pub(super) fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let widths: Vec<usize> =
        (0..COLUMNS).map(|column| width(0, rows.iter().map(|row| row[column].as_str()))).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}\t"));
        cells.collect::<String>()
    });
    lines.collect::<Vec<_>>().join("\n")
}
