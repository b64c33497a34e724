//! Text laid out for a terminal of 60 columns.

use std::fmt::Display;
use std::io::Write;

/// The width of a line in columns, unless a name is longer.
pub(crate) const WIDTH: usize = 60;

/// Prints a line of results. It is no error if the reader has gone, as `| head` does.
pub(crate) fn line(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A name and its text, wrapped to [`WIDTH`] columns; further lines are indented to the first word of the text. A name
/// that is too long gets a line of its own; a shape such as `[7, 3]` is not broken.
pub(crate) fn entry(name: &str, name_width: usize, text: &str) -> String {
    let mut out = format!("{name:<name_width$}");
    let mut column = name_width;
    if name_width > 0 && !out.ends_with(' ') {
        out += &format!("\n{:name_width$}", "");
    }
    let mut first = true;
    for word in words(text) {
        let len = word.chars().count();
        if !first && column + 1 + len > WIDTH {
            out += &format!("\n{:name_width$}", "");
            column = name_width;
            first = true;
        }
        if !first {
            out.push(' ');
            column += 1;
        }
        out += &word;
        column += len;
        first = false;
    }
    out
}

/// The words of a text; whatever is in brackets counts as one word.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match words.last_mut() {
            Some(open) if open.starts_with('[') && !open.contains(']') => {
                open.push(' ');
                open.push_str(word);
            }
            _ => words.push(word.into()),
        }
    }
    words
}

/// Rows under a head, in columns that never touch: the first is text, the others are numbers. Columns that do not fit into
/// [`WIDTH`] follow below, beside the first column again; a name too long for that is shortened.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    const GAP: usize = 2;
    let all =
        || std::iter::once(head.iter().map(|cell| (*cell).to_owned()).collect()).chain(rows.iter().cloned());
    let wide = |column: usize| -> usize {
        all()
            .map(|row: Vec<String>| row.get(column).map_or(0, |cell| cell.chars().count()))
            .max()
            .unwrap_or(0)
    };
    let widest = (1..head.len()).map(wide).max().unwrap_or(0) + GAP;
    let first = wide(0).min(WIDTH.saturating_sub(widest).max(8));
    let mut blocks: Vec<Vec<usize>> = vec![Vec::new()];
    let mut used = first;
    for column in 1..head.len() {
        let width = GAP + wide(column);
        let block = blocks.last_mut().expect("there is one");
        if used + width > WIDTH && !block.is_empty() {
            blocks.push(vec![column]);
            used = first + width;
        } else {
            block.push(column);
            used += width;
        }
    }
    let mut lines = Vec::new();
    for (at, block) in blocks.iter().enumerate() {
        if at > 0 {
            lines.push(String::new());
        }
        for row in all() {
            let mut line = format!("{:<first$}", shortened(&row[0], first));
            for &column in block {
                let width = GAP + wide(column);
                line += &format!("{:>width$}", row.get(column).map_or("", String::as_str));
            }
            lines.push(line.trim_end().to_owned());
        }
    }
    lines
}

/// A name in at most `width` columns; dots say that it is longer.
pub(crate) fn shortened(name: &str, width: usize) -> String {
    if name.chars().count() <= width {
        return name.to_owned();
    }
    name.chars().take(width.saturating_sub(3)).chain("...".chars()).collect()
}

/// A number with its digits in groups of three: `1,048,576`.
pub(crate) fn grouped(value: u128) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of bytes in the unit that reads best: `128 MiB`, `1.5 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value.fract() == 0.0 {
        format!("{value} {}", units[unit])
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_lines_align_with_the_first_word() {
        let text = "loops end silently after 65535 iterations; the planner splits longer ones";
        let found = entry("  care", 16, text);
        assert_eq!(
            found,
            "  care          loops end silently after 65535 iterations;\n                the planner splits longer ones"
        );
        assert!(found.lines().all(|line| line.chars().count() <= WIDTH));
        let shape = format!("{} [7, 12, 3] x [4]", "y".repeat(45));
        assert_eq!(entry("", 6, &shape), format!("      {}\n      [7, 12, 3] x [4]", "y".repeat(45)));
        assert_eq!(entry("  layer 10", 10, "[1, 2]"), "  layer 10\n          [1, 2]");
        let long = "x".repeat(80);
        assert_eq!(entry("a", 4, &format!("{long} b")), format!("a   {long}\n    b"));
    }

    #[test]
    fn columns_never_touch_and_go_on_below() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let found = table(&["a", "x", "y"], &[row(&["one", "-1.23e-300", "2"]), row(&["b", "4", ""])]);
        assert_eq!(found, ["a             x  y", "one  -1.23e-300  2", "b             4"]);
        let cells: Vec<String> =
            std::iter::once("n".repeat(70)).chain((0..9).map(|at| format!("-{at}.2345e-300"))).collect();
        let head = ["model", "MAE", "RMSE", "MASE", "sMAPE", "bias", "q", "CRPS", "MSIS", "c"];
        let lines = table(&head, std::slice::from_ref(&cells));
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:#?}");
        let words: Vec<&str> = lines.iter().flat_map(|line| line.split_whitespace()).collect();
        assert!(cells[1..].iter().all(|cell| words.contains(&cell.as_str())), "{lines:#?}");
        assert!(head.iter().all(|cell| words.contains(cell)), "{lines:#?}");
    }

    #[test]
    fn numbers_are_grouped_and_sizes_take_a_unit() {
        for (value, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (1_048_576, "1,048,576"), (12345, "12,345")]
        {
            assert_eq!(grouped(value), text);
        }
        for (bytes, text) in [
            (12, "12 bytes"),
            (128 << 20, "128 MiB"),
            (3 << 29, "1.5 GiB"),
            (1 << 10, "1 KiB"),
            ((1 << 31) - 4, "2.0 GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
