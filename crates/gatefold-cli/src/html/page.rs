use super::Chart;
use gatefold::NetworkConfig;
use std::fmt::Write;

const STYLE: &str = include_str!("style.css");

/// A page in the making.
pub(crate) struct Page {
    title: String,
    body: String,
}

impl Page {
    /// A page with a title and a line below it.
    pub(crate) fn new(title: &str, line: &str) -> Page {
        let body = format!("<header><h1>{}</h1><p>{}</p></header>\n", escaped(title), escaped(line));
        Page { title: title.into(), body }
    }

    /// Adds a section of ready HTML; none without content.
    pub(crate) fn section(&mut self, title: &str, content: &str) {
        if !content.is_empty() {
            let _ = writeln!(self.body, "<section><h2>{}</h2>\n{content}</section>", escaped(title));
        }
    }

    /// Adds a section of charts, side by side where there is room.
    pub(crate) fn charts(&mut self, title: &str, before: &str, charts: &[Chart]) {
        let charts: Vec<String> = charts.iter().filter_map(Chart::figure).collect();
        if !charts.is_empty() {
            self.section(title, &format!("{before}<div class=\"charts\">\n{}</div>\n", charts.concat()));
        }
    }

    /// The whole document.
    pub(crate) fn finish(self) -> String {
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n\
             <body>\n<main>\n{}<footer>Gatefold {}</footer>\n</main>\n</body>\n</html>\n",
            escaped(&self.title),
            self.body,
            env!("CARGO_PKG_VERSION")
        )
    }
}

/// Text that cannot be taken for markup.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            // Control characters are not allowed in HTML, and line ends in a name only make room.
            control if control.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

/// Names and values, one below the other.
pub(crate) fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let rows = facts
        .into_iter()
        .map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(&value)));
    format!("<dl>{}</dl>\n", rows.collect::<String>())
}

/// Lines of text that are shown on demand.
pub(crate) fn details(summary: &str, text: &str) -> String {
    let (summary, text) =
        (escaped(summary), text.trim_end().lines().map(escaped).collect::<Vec<_>>().join("\n"));
    format!("<details><summary>{summary}</summary><pre>{text}</pre></details>\n")
}

/// Lines of text, as a terminal shows them.
pub(crate) fn lines(lines: &[String]) -> String {
    let lines = lines.iter().flat_map(|line| line.split('\n')).map(escaped).collect::<Vec<_>>();
    format!("<pre>{}</pre>\n", lines.join("\n").trim_matches('\n'))
}

/// A drawing of ours, made for a white page. Within HTML it needs no namespace.
pub(crate) fn picture(svg: &str) -> String {
    let drawing = svg.find("<svg").map_or(svg, |start| &svg[start..]);
    format!("<div class=\"picture\">{}</div>\n", drawing.replace(" xmlns=\"http://www.w3.org/2000/svg\"", ""))
}

/// A paragraph.
pub(crate) fn note(text: &str) -> String {
    format!("<p>{}</p>\n", escaped(text))
}

/// A table whose first column is text and whose others are numbers; `marked` is the place of a row that stands out. The
/// second of a cell's two texts is shown when the mouse rests on it: the number with all its digits.
pub(crate) fn table(head: &[&str], rows: &[Vec<(String, String)>], marked: Option<usize>) -> String {
    let columns: String =
        head.iter().map(|cell| format!("<th scope=\"col\">{}</th>", escaped(cell))).collect();
    let mut body = String::new();
    for (at, row) in rows.iter().enumerate() {
        body += if marked == Some(at) { "<tr class=\"best\">" } else { "<tr>" };
        for (column, (shown, whole)) in row.iter().enumerate() {
            let title =
                if whole.is_empty() { String::new() } else { format!(" title=\"{}\"", escaped(whole)) };
            let shown = escaped(shown);
            body += &match column {
                0 => format!("<th scope=\"row\"{title}>{shown}</th>"),
                _ => format!("<td{title}>{shown}</td>"),
            };
        }
        body += "</tr>\n";
    }
    // A phone shows some five columns; the others want a hint.
    let many = if head.len() > 5 { " many" } else { "" };
    format!(
        "<div class=\"scroll{many}\"><table><thead><tr>{columns}</tr></thead><tbody>\n{body}</tbody></table></div>\n"
    )
}

/// The layers of a network, with widths and parameters.
pub(crate) fn layers(config: &NetworkConfig, networks: usize) -> String {
    let plain = |text: String| (text, String::new());
    let count = |number: usize| crate::page::grouped(number as u128);
    let mut rows = Vec::new();
    for layer in config.layers() {
        let parameters: usize =
            if layer.owner == layer.index { layer.parameters.iter().map(|spec| spec.len()).sum() } else { 0 };
        let what = layer.recurrent().map_or_else(|| layer.kind.name().to_owned(), ToString::to_string);
        rows.push(vec![
            plain(what),
            plain(count(layer.input)),
            plain(count(layer.output)),
            plain(count(parameters)),
        ]);
    }
    let total = count(config.parameter_count());
    rows.push(vec![
        plain("together".into()),
        plain(count(config.input())),
        plain(count(config.output())),
        plain(total),
    ]);
    let of = if networks == 1 { "One network".to_owned() } else { format!("Each of {networks} networks") };
    note(&format!("{of}; widths are values per time step."))
        + &table(&["layer", "input", "output", "parameters"], &rows, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_table_holds_is_text() {
        let mut page = Page::new("<script>alert(1)</script>", "a & b");
        let row = vec![("</td><b>".to_owned(), "\" onmouseover=\"x".to_owned())];
        page.section("x's", &table(&["<i>"], &[row], Some(0)));
        page.section("empty", "");
        let text = page.finish();
        assert!(!text.contains("<script") && !text.contains("<b>") && !text.contains("<i>"), "{text}");
        assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && text.contains("a &amp; b"));
        assert!(text.contains("title=\"&quot; onmouseover=&quot;x\"") && !text.contains("empty"));
    }
}
