//! Prints tables that are Markdown and can be read as they are.

/// Prints one row of cells, the first to the left and the others to the right, each as wide as its heading.
pub(crate) fn line(headings: &[&str], cells: &[String]) {
    let mut line = String::new();
    for (at, (heading, cell)) in headings.iter().zip(cells).enumerate() {
        let width = if at == 0 { 24 } else { heading.chars().count() };
        line += &if at == 0 { format!("| {cell:<width$} ") } else { format!("| {cell:>width$} ") };
    }
    println!("{line}|");
}

/// Prints the headings and the line below them.
pub(crate) fn head(headings: &[&str]) {
    line(headings, &headings.iter().map(|heading| (*heading).to_owned()).collect::<Vec<_>>());
    let rules: Vec<String> =
        (0..headings.len()).map(|at| if at == 0 { "---" } else { "---:" }.into()).collect();
    println!("| {} |", rules.join(" | "));
}

/// Says whether a figure keeps to its budget.
pub(crate) fn verdict(kept: bool) -> &'static str {
    if kept { "ok" } else { "EXCEEDED" }
}
