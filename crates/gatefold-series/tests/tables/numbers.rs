//! Numbers as people write them.

use super::{check, check_with, read, read_with, reported, summary};
use gatefold_series::{Delimiter, Fill, ReadOptions};

#[test]
fn marks_signs_and_units_are_read() {
    let values = [
        ("plain", "1|-2.5|+3e2|.5|4.", "[1.0, -2.5, 300.0, 0.5, 4.0]"),
        ("thousands comma", "1,234.5|12|1,234,567|999.25", "[1234.5, 12.0, 1234567.0, 999.25]"),
        ("thousands comma without decimals", "12|1,234,567|1,024", "[12.0, 1234567.0, 1024.0]"),
        ("thousands point", "1.234,5|12|1.234.567|999,25", "[1234.5, 12.0, 1234567.0, 999.25]"),
        ("lakhs", "12,34,567.5|1,000.25", "[1234567.5, 1000.25]"),
        ("thousands space", "1 234,5|12 000|7,25", "[1234.5, 12000.0, 7.25]"),
        ("narrow spaces", "1\u{202f}234,5|12\u{a0}000|7,25", "[1234.5, 12000.0, 7.25]"),
        ("apostrophes", "1'234.5|12’000|7.25", "[1234.5, 12000.0, 7.25]"),
        ("dollars", "$1,234.50|-$7.25|$0.5|$-3.5", "[1234.5, -7.25, 0.5, -3.5]"),
        ("euros after", "1.234,50 €|-7,25 €|0,5€", "[1234.5, -7.25, 0.5]"),
        ("codes", "EUR 12.5|EUR 7.25|EUR 1,000.5", "[12.5, 7.25, 1000.5]"),
        ("percent", "50.1%|7.25 %|-3.5%", "[50.1, 7.25, -3.5]"),
        ("parentheses", "(1,234.50)|12.25|(0.5)", "[-1234.5, 12.25, -0.5]"),
        ("a real minus", "\u{2212}12.5|7.25", "[-12.5, 7.25]"),
        ("long without thousands", "1024|1.024|7", "[1024.0, 1.024, 7.0]"),
        ("a leading zero", "0.987|1.024", "[0.987, 1.024]"),
        ("a comma and a long number", "1024|1,024", "[1024.0, 1.024]"),
    ];
    for (name, cells, expected) in values {
        let content = format!(
            "x\tdummy\ty\n{}\n",
            cells.split('|').map(|cell| format!("a\tb\t{cell}")).collect::<Vec<_>>().join("\n")
        );
        let data = read(&content).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(format!("{:?}", data.series()[0].target(0)), expected, "{name}");
    }
}

#[test]
fn numbers_with_two_readings_are_refused() {
    let tail = "; say --thousands . or --decimal .";
    let comma = "; say --thousands , or --decimal ,";
    check(&[
        (
            "point",
            "d;y\n2001-01;987\n2001-02;1.024\n",
            &format!("refused, line 3, column y: '1.024' may mean 1024 or 1.024{tail}"),
        ),
        (
            "point under comma",
            "d,y\n2001-01,987\n2001-02,1.024\n",
            &format!("refused, line 3, column y: '1.024' may mean 1024 or 1.024{tail}"),
        ),
        (
            "all points under semicolons",
            "d;y\n2001-01;1.987\n2001-02;1.024\n",
            &format!("refused, line 2, column y: '1.987' may mean 1987 or 1.987{tail}"),
        ),
        (
            "quoted commas",
            "d,y\n2001-01,\"1,987\"\n2001-02,\"1,024\"\n",
            &format!("refused, line 2, column y: '1,987' may mean 1987 or 1.987{comma}"),
        ),
        (
            "one column",
            "1,987\n1,024\n",
            &format!("refused, line 1, column 1: '1,987' may mean 1987 or 1.987{comma}"),
        ),
        (
            "one column, no leading zero",
            "1,987\n1,124\n",
            "refused, line 1: '1,987' is one number or two columns; use --decimal , or --delimiter comma",
        ),
        (
            "both",
            "d;y\n2001-01;1.5\n2001-02;1,5\n",
            "refused, line 3, column y: '1,5' and '1.5' take points and commas differently; write both alike, or say --decimal",
        ),
        (
            "currencies",
            "d;y\n2001-01;$1.5\n2001-02;€1.5\n",
            "refused, line 3, column y: '€1.5' has another currency or sign than the cells above; write all alike",
        ),
        (
            "sometimes percent",
            "d;y\n2001-01;1.5%\n2001-02;1.5\n",
            "refused, line 3, column y: '1.5' has another currency or sign than the cells above; write all alike",
        ),
        (
            "percent later",
            "d;y\n2001-01;1.5\n2001-02;1.5%\n",
            "refused, line 3, column y: '1.5%' has another currency or sign than the cells above; write all alike",
        ),
        (
            "too large",
            "d;y\n2001-01;1.5\n2001-02;1e999\n2001-03;2\n",
            "refused, line 3, column y: '1e999' is not a number; correct the cell, or leave it empty if the value is missing",
        ),
        (
            "infinite",
            "d;y\n2001-01;1.5\n2001-02;inf\n2001-03;2\n",
            "refused, line 3, column y: 'inf' is not a number; correct the cell, or leave it empty if the value is missing",
        ),
        (
            "wrong groups",
            "d;y\n2001-01;1.5\n2001-02;1,23,4\n2001-03;2\n",
            "refused, line 3, column y: '1,23,4' is not a number; correct the cell, or leave it empty if the value is missing",
        ),
    ]);
}

#[test]
fn other_columns_and_options_settle_the_marks() {
    check(&[
        (
            "another column",
            "d;x;y\n2001-01;1,5;987\n2001-02;2,5;1.024\n",
            "2001-01 [987.0, 1024.0] -> 2001-03 | 2001-04",
        ),
        (
            "another column, points",
            "d;x;y\n2001-01;1.5;987\n2001-02;2.5;1.024\n",
            "2001-01 [987.0, 1.024] -> 2001-03 | 2001-04",
        ),
    ]);
    let cases =
        [("as asked", "d;y\n2001-01;987\n2001-02;1.024\n", "2001-01 [987.0, 1024.0] -> 2001-03 | 2001-04")];
    check_with(&cases, ReadOptions::new().thousands('.'));
    check_with(&cases, ReadOptions::new().decimal(','));
    let cases =
        [("as asked", "d;y\n2001-01;987\n2001-02;1.024\n", "2001-01 [987.0, 1.024] -> 2001-03 | 2001-04")];
    check_with(&cases, ReadOptions::new().decimal('.'));
    let cases = [("one column", "1,987\n1,124\n", "1 [1.987, 1.124] -> 3 | 4")];
    check_with(&cases, ReadOptions::new().decimal(','));
    let cases = [("one column", "1,987\n1,124\n", "1 [987.0, 124.0] -> 3 | 4")];
    check_with(&cases, ReadOptions::new().delimiter(Delimiter::Char(b',')));
    let cases = [(
        "contradiction",
        "d;y\n2001-01;1.5\n2001-02;2.5\n",
        "refused, line 2, column y: '1.5' is not a number with a decimal comma; correct the cell",
    )];
    check_with(&cases, ReadOptions::new().decimal(','));
    let marks = |options: ReadOptions| summary(read_with("d;y\n2001-01;1\n2001-02;2\n", options));
    assert_eq!(marks(ReadOptions::new().decimal(';')), "refused: --decimal is . or , and not ';'");
    assert_eq!(
        marks(ReadOptions::new().decimal(',').thousands(',')),
        "refused: --decimal and --thousands are both ','; say different marks"
    );
}

#[test]
fn three_digits_throughout_are_read_loudly_or_not_at_all() {
    let data = read("d,y\n2001-01,1.987\n2001-02,1.024\n").unwrap();
    assert_eq!(data.series()[0].target(0), [1.987, 1.024]);
    assert_eq!(
        data.report().warnings().next().unwrap(),
        "'1.987' is read as a decimal; if not, say --thousands ."
    );
    let data = read("d;y\n2001-01;1,987\n2001-02;1,024\n").unwrap();
    assert_eq!(data.series()[0].target(0), [1.987, 1.024]);
    assert_eq!(
        data.report().warnings().next().unwrap(),
        "'1,987' is read as a decimal; if not, say --thousands ,"
    );
    assert!(summary(read("d\ty\n2001-01\t1.987\n2001-02\t1.024\n")).contains("may mean 1987 or 1.987"));
}

#[test]
fn marks_and_units_are_said() {
    let said = |content: &str| reported(&read(content).unwrap(), "cells");
    assert_eq!(
        said("d;y\n2001-01;1.000,5\n2001-02;2,5\n"),
        "separated by semicolon, decimal comma, thousands point"
    );
    assert_eq!(
        said("d;y\n2001-01;(5.5)\n2001-02;2.5\n"),
        "separated by semicolon, decimal point, parentheses are negative"
    );
    assert_eq!(
        said("d;y\n2001-01;$5.5\n2001-02;$2.5\n"),
        "separated by semicolon, decimal point, '$' taken off"
    );
}

#[test]
fn marks_of_missing_values_are_known_or_asked_for() {
    let cells = ["NA", "n/a", "NaN", "null", "None", "-", ".", "?", "#N/A", "", "<NA>", "\\N"];
    for cell in cells {
        let content = format!("d,y\n2001-01,1\n2001-02,{cell}\n2001-03,3\n");
        let found = summary(read_with(&content, ReadOptions::new().fill(Fill::Linear)));
        assert_eq!(found, "2001-01 [1.0, 2.0, 3.0] -> 2001-04 | 2001-05", "{cell}");
    }
    let content = "d,y\n2001-01,1\n2001-02,-999.0\n2001-03,3\n";
    let found = summary(read_with(content, ReadOptions::new().fill(Fill::Linear).na(["-999"])));
    assert_eq!(found, "2001-01 [1.0, 2.0, 3.0] -> 2001-04 | 2001-05");
    let values: Vec<String> =
        (0..20).map(|k| format!("{}", if k == 7 { -999 } else { 10 + k % 3 })).collect();
    let data = read(format!("y\n{}\n", values.join("\n"))).unwrap();
    assert_eq!(
        data.report().warnings().last().unwrap(),
        "-999 comes 1 time: say --na -999 if it means no value"
    );
}
