//! Bytes to cells: encodings, compression, delimiters, quotes, comments, lines above and below.

use super::{check, read, read_with, reported, summary};
use gatefold_series::{Delimiter, Encoding, ReadOptions};
use std::io::Write;

const RESULT: &str = "2001-01 [1.5, 2.5, 3.5] -> 2001-04 | 2001-05";

#[test]
fn every_delimiter_quote_and_line_end_is_read() {
    let cases = [
        ("comma", "date,y\n2001-01,1.5\n2001-02,2.5\n2001-03,3.5\n"),
        ("no line end", "date,y\n2001-01,1.5\n2001-02,2.5\n2001-03,3.5"),
        ("windows", "date,y\r\n2001-01,1.5\r\n2001-02,2.5\r\n2001-03,3.5\r\n"),
        ("old mac", "date,y\r2001-01,1.5\r2001-02,2.5\r2001-03,3.5\r"),
        ("mark", "\u{feff}date,y\n2001-01,1.5\n2001-02,2.5\n2001-03,3.5\n"),
        ("semicolon", "date;y\n2001-01;1.5\n2001-02;2.5\n2001-03;3.5\n"),
        ("decimal comma", "date;y\n2001-01;1,5\n2001-02;2,5\n2001-03;3,5\n"),
        ("tab", "date\ty\n2001-01\t1.5\n2001-02\t2.5\n2001-03\t3.5\n"),
        ("bar", "date|y\n2001-01|1.5\n2001-02|2.5\n2001-03|3.5\n"),
        ("bar with spaces", "date | y\n2001-01 | 1.5\n2001-02 | 2.5\n2001-03 | 3.5\n"),
        ("spaces", "date y\n2001-01 1.5\n2001-02 2.5\n2001-03 3.5\n"),
        ("aligned", "   date     y\n2001-01   1.5\n2001-02   2.5\n2001-03   3.5  \n"),
        ("sep", "sep=;\ndate;y\n2001-01;1.5\n2001-02;2.5\n2001-03;3.5\n"),
        ("sep in capitals", "SEP=|\r\ndate|y\r\n2001-01|1.5\r\n2001-02|2.5\r\n2001-03|3.5\r\n"),
        ("quotes", "\"date\",\"y\"\n\"2001-01\",\"1.5\"\n\"2001-02\",\"2.5\"\n\"2001-03\",\"3.5\"\n"),
        ("spaces around quotes", "\"date\" , \"y\"\n\"2001-01\" , \"1.5\"\n2001-02,2.5\n2001-03,3.5\n"),
        (
            "a delimiter in quotes",
            "date,\"a, b\",y\n2001-01,\"c, d\",1.5\n2001-02,\"e\",2.5\n2001-03,f,3.5\n",
        ),
        ("a line end in a name", "date,\"y\n(EUR)\"\n2001-01,1.5\n2001-02,2.5\n2001-03,3.5\n"),
        ("a line end in a cell", "date,note,y\n2001-01,\"a\nb\",1.5\n2001-02,c,2.5\n2001-03,d,3.5\n"),
        (
            "doubled quotes",
            "date,\"a \"\"b\"\"\",y\n2001-01,\"\"\"x\"\"\",1.5\n2001-02,u,2.5\n2001-03,v,3.5\n",
        ),
        ("blank lines", "\n\ndate,y\n\n2001-01,1.5\n2001-02,2.5\n\n2001-03,3.5\n\n   \n\n"),
        ("rows of delimiters", "date,y\n2001-01,1.5\n2001-02,2.5\n2001-03,3.5\n,\n,\n"),
        ("a trailing delimiter", "date,y\n2001-01,1.5,\n2001-02,2.5,\n2001-03,3.5,\n"),
        ("a trailing delimiter everywhere", "date,y,\n2001-01,1.5,\n2001-02,2.5,\n2001-03,3.5,\n"),
        ("a comment", "# from a logger\ndate,y\n2001-01,1.5\n2001-02,2.5\n# a gap in power\n2001-03,3.5\n"),
        ("names in a comment", "# from a logger\n# date y\n2001-01 1.5\n2001-02 2.5\n2001-03 3.5\n"),
        ("a preamble", "Report of sales\n\ndate,y\n2001-01,1.5\n2001-02,2.5\n2001-03,3.5\n"),
        ("a preamble as wide", "Station,Berlin\nUnit,mm\n\ndate,y\n2001-01,1.5\n2001-02,2.5\n2001-03,3.5\n"),
        ("a wider preamble", "a,b,c\nd,e,f\ndate,y\n2001-01,1.5\n2001-02,2.5\n2001-03,3.5\n"),
        ("a text with bars", "date,note,y\n2001-01,a|b,1.5\n2001-02,c|d,2.5\n2001-03,e|f,3.5\n"),
        ("markdown", "| date | y |\n|---|---|\n| 2001-01 | 1.5 |\n| 2001-02 | 2.5 |\n| 2001-03 | 3.5 |\n"),
        ("columns without values", "date;y;;\n2001-01;1.5;;\n2001-02;2.5;;\n2001-03;3.5;;\n"),
        ("units", "date,y\n,mm\n2001-01,1.5\n2001-02,2.5\n2001-03,3.5\n"),
        ("a footer", "date,y\n2001-01,1.5\n2001-02,2.5\n2001-03,3.5\n\nSource: the office\n"),
        ("the mark of DOS", "date,y\n2001-01,1.5\n2001-02,2.5\n2001-03,3.5\n\u{1a}"),
    ];
    let cases: Vec<_> = cases.iter().map(|(name, content)| (*name, *content, RESULT)).collect();
    check(&cases);
}

#[test]
fn encodings_and_gzip_are_found_and_said() {
    let text = "Datum;Größe in °C\n2001-01;1,5\n2001-02;2,5\n2001-03;3,5\n";
    let utf16 = |mark: bool, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        let text = if mark { format!("\u{feff}{text}") } else { text.into() };
        text.encode_utf16().flat_map(bytes).collect()
    };
    let latin: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let gzip = {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        out.write_all(text.as_bytes()).unwrap();
        out.finish().unwrap()
    };
    let encodings = [
        (text.as_bytes().to_vec(), "UTF-8"),
        (utf16(true, u16::to_le_bytes), "UTF-16LE"),
        (utf16(true, u16::to_be_bytes), "UTF-16BE"),
        (utf16(false, u16::to_le_bytes), "UTF-16LE"),
        (latin, "Windows-1252"),
        (gzip.clone(), "UTF-8, gzip"),
        ([gzip.clone(), Vec::new()].concat(), "UTF-8, gzip"),
    ];
    for (bytes, name) in encodings {
        let data = read(bytes).unwrap();
        assert_eq!(data.targets(), ["Größe in °C"], "{name}");
        assert_eq!(data.series()[0].target(0), [1.5, 2.5, 3.5], "{name}");
        assert_eq!(reported(&data, "table"), format!("t.csv, 3 rows, 2 columns, {name}"));
    }
    assert_eq!(read(b"a\x80\n1\n2\n").unwrap().targets(), ["a€"]);
    let broken = &gzip[..gzip.len() - 12];
    assert!(summary(read(broken)).starts_with("refused: gzip: "), "{}", summary(read(broken)));
}

#[test]
fn files_that_are_no_tables_are_refused() {
    let cases: [(&[u8], &str); 14] = [
        (b"", "refused: the table is empty; expected a line of names and rows of values"),
        (b"\n \n", "refused: the table is empty; expected a line of names and rows of values"),
        (b"a,b\n", "refused: the table has a line of names and no rows; add the values below it"),
        (b"[{\"a\":1},\n{\"a\":2}]\n", "refused: this is JSON; expected a table as CSV"),
        (b"<table>\n", "refused: this is HTML or XML; expected a table as CSV"),
        (b"PK\x03\x04abc", "refused: this is a spreadsheet or an archive (zip); save the table as CSV"),
        (b"a,b\n1,\x01\n", "refused, line 2: a control character: this is not text; expected a table as CSV"),
        (
            "é,b\n1,2\n".as_bytes().iter().chain(b"\xe9,4\n").copied().collect::<Vec<u8>>().leak(),
            "refused, line 3: not UTF-8 text, though other lines are; save the table in UTF-8, or say --encoding",
        ),
        (
            b"a,b\n1,2\n\n3\n",
            "refused, line 4: 1 cell; expected 2 as in line 1; add the missing delimiter or quote the cell",
        ),
        (
            b"a,b\n1,2\n1,2,3\n5,6\n",
            "refused, line 3: 3 cells; expected 2 as in line 1; add the missing delimiter or quote the cell",
        ),
        (
            b"a,b\n\"1,2\n3,4\n",
            "refused, line 2: the quote opened in line 2 is never closed; close or remove it",
        ),
        (
            b"a,b\n\"1\"2,3\n",
            "refused, line 2: text follows a closing quote; double the quotes within the cell",
        ),
        (
            b"a,b\nx,y\nu,v\n",
            "refused: no column holds numbers to forecast; column b holds text, such as 'y'",
        ),
        (
            b"Datum,Wert\n2004-01,100,00\n2004-02,101,50\n",
            "refused, line 2: '100,00' is one number or two columns; quote the numbers, or say --delimiter comma if they are \
             columns",
        ),
    ];
    for (content, expected) in cases {
        assert_eq!(summary(read(content)), expected, "{}", String::from_utf8_lossy(content));
    }
}

#[test]
fn options_force_the_dialect() {
    let options = ReadOptions::new;
    let cases = [
        ("a:y\n1:5\n2:6\n", options().delimiter(Delimiter::Char(b':')), "1 [5.0, 6.0] -> 3 | 4"),
        (
            "1749:1750\n5:6\n7:9\n",
            options().header(true).delimiter(Delimiter::Char(b':')),
            "1 [6.0, 9.0] -> 3 | 4",
        ),
        ("x\ny\n7\n8\n", options().skip(1), "1 [7.0, 8.0] -> 3 | 4"),
        ("7\n8\n9\n", options().header(true), "1 [8.0, 9.0] -> 3 | 4"),
        ("7\n8\n9\n", options().header(false), "1 [7.0, 8.0, 9.0] -> 4 | 5"),
        ("y\n7\n% no\n9\n", options().comment("%"), "1 [7.0, 9.0] -> 3 | 4"),
        (
            "y\n7\n",
            options().skip(2),
            "refused: --skip 2, but the file has no more lines than that; skip fewer",
        ),
        (
            "y\n7\n",
            options().comment(""),
            "refused: --comment is empty; say the characters that begin a line to ignore",
        ),
        ("1,032\n1,057\n", options().delimiter(Delimiter::Char(b',')), "1 [32.0, 57.0] -> 3 | 4"),
    ];
    for (content, options, expected) in cases {
        assert_eq!(summary(read_with(content, options)), expected, "{content}");
    }
    let latin = ReadOptions::new().encoding(Encoding::Windows1252);
    assert_eq!(read_with("ä,b\n1,2\n3,4\n", latin).unwrap().covariates(), ["Ã¤"]);
}

#[test]
fn names_and_rows_are_told_apart() {
    check(&[
        ("a number as name", "date,7\n2001-01,1.5\n2001-02,2.5\n2001-03,3.5\n", RESULT),
        ("no names", "2001-01,1.5\n2001-02,2.5\n2001-03,3.5\n", RESULT),
        ("numbered names", "0,1\n0.5,1.5\n0.7,2.5\n0.1,3.5\n", "1 [1.5, 2.5, 3.5] -> 4 | 5"),
        (
            "numbered names above whole numbers",
            "0,1,2\n5,1,3\n7,2,4\n",
            "refused, line 1: '0' and so on are names or values; say --header yes or --header no",
        ),
        (
            "one bad cell below the names",
            "date,y\n2001-01,oops\n2001-02,2.5\n2001-03,3.5\n",
            "refused, line 2, column y: 'oops' is not a number; correct the cell, or leave it empty if the value is missing",
        ),
        (
            "one bad date below the names",
            "date,y\ntotal,1.5\n2001-02,2.5\n2001-03,3.5\n2001-04,3.5\n",
            "refused, line 2, column date: 'total' is not a time like '2001-02'; correct the cell, or remove the line",
        ),
        (
            "a blank line is a missing value",
            "y\n1\n\n3\n\n\n",
            "refused, line 3, column y: the cell is missing (the only one); fill in a number, or ask for a fill: --fill previous, linear or zero",
        ),
    ]);
}

#[test]
fn doubled_quotes_in_cells_are_undone() {
    let rows: String = (1..=4)
        .flat_map(|day| ["a", "b"].map(|id| format!("\"say \"\"{id}\"\", ok\",2024-01-0{day},{day}\n")))
        .collect();
    let data = read(format!("\"the \"\"id\"\"\",date,y\n{rows}")).unwrap();
    assert_eq!(data.id_columns(), ["the \"id\""]);
    assert_eq!(
        data.series().iter().map(|series| series.id().unwrap()).collect::<Vec<_>>(),
        ["say \"a\", ok", "say \"b\", ok"]
    );
    let quoted = "date,note,y\n2024-01-01,\"\"\"\"\"\",1\n2024-01-02,\"x \"\"\"\"\",2\n2024-01-03,\"\"\"6\"\"\"\"\",4\n";
    let path = std::env::temp_dir().join(format!("gatefold-quotes-{}.csv", std::process::id()));
    std::fs::write(&path, quoted).unwrap();
    let table = gatefold_series::Table::read_rows(&path, &ReadOptions::new());
    std::fs::remove_file(&path).unwrap();
    assert_eq!(table.unwrap().texts("note").unwrap(), [Some("\"\""), Some("x \"\""), Some("\"6\"\"")]);
}

#[test]
fn an_open_quote_is_named_in_any_cell() {
    let problem = |line: usize| {
        format!("refused, line {line}: the quote opened in line {line} is never closed; close or remove it")
    };
    for mark in [",", ";", "\t", "|"] {
        let content = "date,y\n2023-01-01,1\n2023-02-01,\"3\n2023-03-01,4\n".replace(',', mark);
        assert_eq!(summary(read(content)), problem(3));
    }
    let rows = |year: usize| {
        (0..9000).map(move |at| format!("{year}-01-01 {:02}:{:02},{at}\n", at / 60 % 24, at % 60))
    };
    let long: String = rows(2023).chain(["2024-01-01 00:00,\"3\n".to_owned()]).chain(rows(2024)).collect();
    assert_eq!(summary(read(format!("date,y\n{long}"))), problem(9002));
    let inner = "date,note,y\n2023-01-01,\"a\"b,1\n2023-01-02,c,2\n";
    assert_eq!(
        summary(read(inner)),
        "refused, line 2: text follows a closing quote; double the quotes within the cell"
    );
}
