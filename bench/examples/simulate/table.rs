//! Tables in Markdown.

#[derive(Debug)]
pub(crate) struct Markdown(String);

impl Markdown {
    pub(crate) fn new(headings: &[&str]) -> Self {
        let mut table = Self(String::new());
        table.row(headings);
        table.row(&vec!["---"; headings.len()]);
        table
    }

    pub(crate) fn row(&mut self, cells: &[&str]) {
        self.0.push_str(&format!("| {} |\n", cells.join(" | ")));
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}
