//! Tables as people have them, and the messages about those that cannot be used.

use gatefold_series::{Fill, SeriesError, Table, TableOptions};
use std::fs;

fn read(content: impl AsRef<[u8]>) -> Result<Table, SeriesError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    fs::write(&path, content).unwrap();
    Table::read(&path, &TableOptions::new())
}

/// The message without the folder's name; always one line.
fn message<T: std::fmt::Debug>(result: Result<T, SeriesError>) -> String {
    let text = result.expect_err("it should be refused").to_string();
    assert!(!text.contains('\n'), "{text}");
    text.split_once("t.csv").map_or(text.clone(), |(_, rest)| rest.into())
}

fn numbers(content: &str, name: &str) -> Vec<f64> {
    read(content).unwrap().numbers(name, Fill::Refuse).unwrap()
}

#[test]
fn delimiters_line_ends_byte_order_marks_and_quotes_are_understood() {
    let contents = [
        "date,a b,c\n2001-01,1,2\n2001-02,3,4\n",
        "\u{feff}date,a b,c\r\n2001-01,1,2\r\n2001-02,3,4\r\n",
        "date;a b;c\n2001-01;1;2\n2001-02;3;4",
        "date\ta b\tc\n2001-01\t1\t2\n2001-02\t3\t4\n",
        "\"date\"|\"a b\"|\"c\"\n\"2001-01\"|\"1\"|\"2\"\n\n2001-02| 3 |4\n\n",
        "date,\"a b\",c\n2001-01,+1.0e0,2\n2001-02,3.,\"4\"\n",
    ];
    let described = |content: &str| -> Result<String, SeriesError> {
        let table = read(content)?;
        let (names, numeric) = (table.names(), table.numeric_names().collect::<Vec<_>>());
        let (a, c) = (table.numbers("a b", Fill::Refuse)?, table.numbers("c", Fill::Refuse)?);
        let (dates, last) = (table.dates(), table.last_numeric_name()?);
        Ok(format!("{} rows, {names:?}, {numeric:?}, {last}, {dates:?}, {a:?}, {c:?}", table.rows()))
    };
    let expected = "2 rows, [\"date\", \"a b\", \"c\"], [\"a b\", \"c\"], c, \
                    Some([\"2001-01\", \"2001-02\"]), [1.0, 3.0], [2.0, 4.0]";
    let found = contents.map(|content| described(content).unwrap_or_else(|error| error.to_string()));
    assert_eq!(found, [expected; 6]);
}

#[test]
fn a_header_is_found_or_stated() {
    assert_eq!(numbers("1,2,5\n3,4,6\n", "2"), [2.0, 4.0]);
    assert_eq!(numbers("2001-01-01,2\n2001-01-02,4\n", "2"), [2.0, 4.0]);
    assert_eq!(numbers("adc\n975\n981\n", "adc"), [975.0, 981.0]);
    assert_eq!(numbers("x,x,\n1,2,3\n", "x (2)"), [2.0]);
    assert_eq!(numbers("x,x,\n1,2,3\n", "3"), [3.0]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("years.csv");
    fs::write(&path, "1749:1750\n5:6\n").unwrap();
    let options = TableOptions::new().header(true).delimiter(b':');
    assert_eq!(Table::read(&path, &options).unwrap().numbers("1750", Fill::Refuse).unwrap(), [6.0]);
}

#[test]
fn a_table_that_cannot_be_read_says_why() {
    let empty = ": the table is empty; expected a line of names and rows of values";
    assert_eq!(message(read("")), empty);
    assert_eq!(message(read("\u{feff}\n\n")), empty);
    assert_eq!(
        message(read("a,b\n")),
        ": the table has a line of names and no rows; add the values below it"
    );
    assert_eq!(
        message(read("a,b\n1,2\n\n3\n")),
        ", line 4: 1 cell; expected 2 as in line 1; add the missing delimiter or quote the cell"
    );
    assert!(message(read("a,b\n1,2\n1,2,3\n")).starts_with(", line 3: 3 cells; expected 2"));
    assert_eq!(
        message(read("PK\0\0")),
        ", line 1: a control character: this is not text; expected a table as CSV"
    );
    let missing = Table::read("no/such/file.csv", &TableOptions::new()).unwrap_err().to_string();
    assert_eq!(missing, "no/such/file.csv: there is no such file; check the path");
    let folder = Table::read(env!("CARGO_MANIFEST_DIR"), &TableOptions::new()).unwrap_err().to_string();
    assert!(folder.ends_with(": this is a directory; expected a file"), "{folder}");
}

#[test]
fn a_column_that_cannot_be_used_says_why() {
    let table =
        read("date,a,b,c\n2001-01,1,x,2\n2001-02,no,y,3\n2001-03,3,,\"4,5\"\n2001-04,3,,6\n").unwrap();
    let problem = |name: &str| message(table.numbers(name, Fill::Refuse));
    assert_eq!(problem("d"), ": there is no column d; columns of numbers: a, c");
    assert_eq!(problem("b"), ": column b holds text, such as 'x'; columns of numbers: a, c");
    assert_eq!(problem("date"), ": column date holds dates, such as '2001-01'; columns of numbers: a, c");
    assert_eq!(
        problem("a"),
        ", line 3, column a: 'no' is not a number; correct the cell, or leave it empty if the value is missing"
    );
    assert_eq!(table.numbers("c", Fill::Refuse).unwrap(), [2.0, 3.0, 4.5, 6.0], "a decimal comma in quotes");
    assert!(
        message(read("n\nx\ny\n").unwrap().last_numeric_name())
            .starts_with(": no column holds numbers; found n")
    );
    assert!(
        message(read("n\n1\n1e999\n2\n").unwrap().numbers("n", Fill::Refuse)).contains("line 3"),
        "too large"
    );
}

#[test]
fn missing_cells_are_named_or_filled_when_asked() {
    let table = read("a,b\n1,1\n,2\nNA,\n4,4\n").unwrap();
    let problem = message(table.numbers("a", Fill::Refuse));
    assert!(
        problem.starts_with(", line 3, column a: the cell is missing (2 in all); fill in a number"),
        "{problem}"
    );
    assert_eq!(table.numbers("a", Fill::Previous).unwrap(), [1.0, 1.0, 1.0, 4.0]);
    assert_eq!(table.numbers("a", Fill::Linear).unwrap(), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(table.numbers("b", Fill::Linear).unwrap(), [1.0, 2.0, 3.0, 4.0]);
    let table = read("a,b\n,1\n2,2\n3,\n").unwrap();
    assert!(
        message(table.numbers("a", Fill::Linear))
            .contains("line 2, column a: the cell is missing and no value")
    );
    assert_eq!(table.numbers("b", Fill::Previous).unwrap(), [1.0, 2.0, 2.0]);
    assert!(
        message(table.numbers("b", Fill::Linear))
            .contains("line 4, column b: the cell is missing and no value")
    );
    // One column: the blank line is a cell, but those at the end are not.
    let table = read("a\n1\n\n3\n\n\n").unwrap();
    assert!(message(table.numbers("a", Fill::Refuse)).starts_with(", line 3, column a"));
    assert_eq!(table.rows(), 3);
}

#[test]
fn rows_from_new_to_old_are_refused() {
    let problem = message(read("date,v\n2001-03,1\n2001-02,2\n"));
    assert_eq!(
        problem,
        ", line 3, column date: 2001-02 comes after 2001-03; sort the rows by date, oldest first"
    );
}
