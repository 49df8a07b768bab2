//! The table of stores in README.md, which stands between two marks.

const BEGIN: &str = "<!-- stores: written by `./test table`, do not edit -->\n";
const END: &str = "<!-- end of stores -->\n";

/// The column that tells on which server a store was proved.
const PROVED_ON: usize = 5;

/// Puts `table` in the place of the one there is: rows of stores that are no more go with it.
pub(crate) fn with_table(readme: &str, table: &str) -> String {
    let (before, _, after) = parts(readme);
    format!("{before}{BEGIN}{table}{END}{after}")
}

/// Compares the table there is with `table`, but for what depends on the machine and on the day: the server, and how many
/// of the cases passed just now.
///
/// # Errors
/// The rows that differ, and how to mend them.
pub(crate) fn check(readme: &str, table: &str) -> Result<(), String> {
    let (_, old, _) = parts(readme);
    let old: Vec<String> = old.lines().map(|row| cells(row).join(" | ")).collect();
    let new: Vec<String> = table.lines().map(|row| all_passed(cells(row)).join(" | ")).collect();
    if old == new {
        return Ok(());
    }
    let removed = old.iter().filter(|row| !new.contains(row)).map(|row| format!("\n- {row}"));
    let added = new.iter().filter(|row| !old.contains(row)).map(|row| format!("\n+ {row}"));
    let rows: String = removed.chain(added).collect();
    Err(format!(
        "the table of stores in README.md is stale: run `./test table` and look at what changes{rows}"
    ))
}

/// What stands before the table, the table, and what stands after it.
fn parts(readme: &str) -> (&str, &str, &str) {
    let (before, rest) = readme.split_once(BEGIN).expect("README.md has the mark where the table begins");
    let (table, after) = rest.split_once(END).expect("README.md has the mark where the table ends");
    (before, table, after)
}

/// The cells of a row, but for the server: another machine may have another.
fn cells(row: &str) -> Vec<String> {
    let cells = row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).enumerate();
    cells.filter(|(column, _)| *column != PROVED_ON).map(|(_, cell)| cell).collect()
}

/// The row as it is when every case passes: whether they did is asked of the run.
fn all_passed(mut cells: Vec<String>) -> Vec<String> {
    if let Some(last) = cells.last_mut()
        && let Some((_, all)) = last.split_once(" of ")
    {
        *last = format!("{all} of {all}");
    }
    cells
}
