//! A table in any dialect reads back to the same values, or is refused; it is never read wrong.

use super::read;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Dialect {
    delimiter: &'static str,
    decimal: char,
    thousands: &'static str,
    quoted: bool,
    line_end: &'static str,
    header: bool,
    preamble: bool,
    newest_first: bool,
    format: usize,
    decimals: usize,
    mark: bool,
}

fn dialects() -> impl Strategy<Value = Dialect> {
    let marks = prop_oneof![
        Just((",", '.', "")),
        Just((",", '.', ",")),
        Just((";", ',', "")),
        Just((";", ',', ".")),
        Just((";", '.', "")),
        Just((";", '.', ",")),
        Just((",", ',', "")),
        Just((",", ',', ".")),
        Just((";", ',', " ")),
        Just(("\t", '.', "")),
        Just(("\t", ',', "")),
        Just(("\t", '.', "'")),
        Just(("|", '.', ",")),
        Just(("|", ',', ".")),
    ];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (marks, flags, prop_oneof![Just("\n"), Just("\r\n")], 0..6usize, 0..4usize).prop_map(
        |(
            (delimiter, decimal, thousands),
            (quoted, header, preamble, newest_first, mark),
            line_end,
            format,
            decimals,
        )| Dialect {
            delimiter,
            decimal,
            thousands,
            quoted,
            line_end,
            header,
            preamble: preamble && header,
            newest_first,
            format,
            decimals,
            mark,
        },
    )
}

fn number(value: f64, dialect: &Dialect) -> String {
    let text = format!("{value:.*}", dialect.decimals);
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push_str(dialect.thousands);
        }
        grouped.push(digit);
    }
    let point = if fraction.is_empty() { String::new() } else { dialect.decimal.to_string() };
    format!("{sign}{grouped}{point}{fraction}")
}

/// Day number `day` of 2023 and 2024, and the next one, in a format.
fn date(day: usize, format: usize) -> String {
    const DAYS: [usize; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    const NAMES: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (mut month, mut rest) = (0, day);
    while rest >= DAYS[month] {
        rest -= DAYS[month];
        month += 1;
    }
    let (d, m) = (rest + 1, month + 1);
    match format {
        0 => format!("2023-{m:02}-{d:02}"),
        1 => format!("{d:02}.{m:02}.2023"),
        2 => format!("{m}/{d}/2023"),
        3 => format!("{d:02}-{}-2023", NAMES[month]),
        4 => format!("2023-{m:02}-{d:02}T00:00:00Z"),
        _ => format!("2023{m:02}{d:02}"),
    }
}

fn table(values: &[[f64; 2]], dialect: &Dialect) -> String {
    let quote = |cell: String| {
        let needed = dialect.quoted || cell.contains(dialect.delimiter);
        if needed { format!("\"{cell}\"") } else { cell }
    };
    let mut rows: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(day, row)| {
            let cells = [date(day, dialect.format), number(row[0], dialect), number(row[1], dialect)];
            cells.map(quote).join(dialect.delimiter)
        })
        .collect();
    if dialect.newest_first {
        rows.reverse();
    }
    if dialect.header {
        rows.insert(0, ["date", "a b", "c"].map(|name| quote(name.into())).join(dialect.delimiter));
    }
    if dialect.preamble {
        rows.insert(0, "Sales of the north".into());
        rows.insert(1, String::new());
    }
    let mark = if dialect.mark { "\u{feff}" } else { "" };
    format!("{mark}{}{}", rows.join(dialect.line_end), dialect.line_end)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn a_table_is_read_right_or_refused(
        cells in prop::collection::vec((-2_000_000i64..2_000_000, 0..4u32, -99_999i64..99_999), 5..40),
        dialect in dialects(),
    ) {
        let unit = 10f64.powi(dialect.decimals as i32);
        let values: Vec<[f64; 2]> = cells
            .iter()
            .map(|(a, shrink, b)| [(*a / 10i64.pow(*shrink)) as f64 / unit, *b as f64 / unit])
            .collect();
        let text = table(&values, &dialect);
        match read(&text) {
            Ok(data) => {
                prop_assert_eq!(data.series().len(), 1);
                let series = &data.series()[0];
                if data.report().warnings().any(|line| line.contains("is read as")) {
                    return Ok(()); // said loudly
                }
                let c: Vec<f64> = values.iter().map(|row| row[1]).collect();
                prop_assert_eq!(series.target(0), &c[..], "{}\n{}", text, data.report());
                if dialect.header {
                    prop_assert_eq!(data.targets(), &["c"][..]);
                }
                if data.covariates().len() == 1 {
                    let a: Vec<f64> = values.iter().map(|row| row[0]).collect();
                    prop_assert_eq!(series.covariate(0), &a[..], "{}", text);
                }
                let label = data.calendar().label(values.len() as i64);
                prop_assert_eq!(label, date(values.len(), dialect.format), "{}", text);
            }
            // What may be refused: numbers and dates with two readings. Everything else is as people write it.
            Err(error) => {
                let error = error.to_string();
                prop_assert!(error.contains("may mean") || error.contains("may be"), "{}\n{}", error, text);
            }
        }
    }
}
