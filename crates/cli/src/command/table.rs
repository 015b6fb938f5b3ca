//! Columns that line up. Pure.

use unicode_width::UnicodeWidthStr;

/// Rows of cells, each column as wide as its widest cell, two blanks between. Columns in `right`
/// are set to the right. The last column isn't filled up.
pub(crate) fn columns(rows: &[Vec<String>], right: &[usize]) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (n, cell) in row.iter().enumerate() {
            let blanks = " ".repeat(widths[n] - cell.width());
            if n > 0 {
                line.push_str("  ");
            }
            if right.contains(&n) {
                line.push_str(&blanks);
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.push_str(&blanks);
            }
        }
        line.truncate(line.trim_end().len());
        line
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stand_under_each_other() {
        let row = |cells: &[&str]| cells.iter().map(ToString::to_string).collect::<Vec<_>>();
        let rows = [row(&["NAME", "SIZE", "X"]), row(&["漢字", "9 B", "longer"]), row(&["a", "", ""])];
        assert_eq!(columns(&rows, &[1]), ["NAME  SIZE  X", "漢字   9 B  longer", "a"]);
        assert!(columns(&[], &[]).is_empty());
    }
}
