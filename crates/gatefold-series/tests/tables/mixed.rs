//! Times written in more than one way, and encodings that must be guessed.

use super::{check, read, read_with, reported, summary};
use gatefold_series::{Encoding, ReadOptions};

#[test]
fn dates_in_two_ways_are_read_if_there_is_one_reading() {
    check(&[
        (
            "midnight without its hour",
            "t,y\n2021-01-05,1\n2021-01-05 06:00,2\n2021-01-05 12:00,3\n2021-01-05 18:00,4\n2021-01-06,5\n",
            "2021-01-05 00:00 [1.0, 2.0, 3.0, 4.0, 5.0] -> 2021-01-06 06:00 | 2021-01-06 12:00",
        ),
        (
            "fractions where there are any",
            "t,y\n2021-01-05T06:00:00,1\n2021-01-05T06:00:00.5,2\n2021-01-05T06:00:01,3\n2021-01-05T06:00:01.5,4\n",
            "2021-01-05T06:00:00.0 [1.0, 2.0, 3.0, 4.0] -> 2021-01-05T06:00:02.0 | 2021-01-05T06:00:02.5",
        ),
        (
            "a day above twelve tells the order",
            "t,y\n2021-01-12,1\n13/01/2021,2\n14/01/2021,3\n",
            "12/01/2021 [1.0, 2.0, 3.0] -> 15/01/2021 | 16/01/2021",
        ),
        (
            "even steps tell the order",
            "t,y\n2021-01-05,1\n06/01/2021,2\n07/01/2021,3\n2021-01-08,4\n2021-01-09,5\n10/01/2021,6\n",
            "2021-01-05 [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] -> 2021-01-11 | 2021-01-12",
        ),
        (
            "two readings",
            "t,y\n2021-01-05,1\n2021-01-06,2\n01/06/2021,3\n",
            "refused, line 4, column t: '01/06/2021' is written otherwise than '2021-01-05': the times may be %Y-%m-%d and %d/%m/%Y, \
             or %Y-%m-%d and %m/%d/%Y; write all in one way",
        ),
        (
            "a month is no day",
            "t,y\n2021-01-31,1\n2021-02,2\n2021-03-31,3\n",
            "refused, line 3, column t: '2021-02' is not a time like '2021-01-31'; correct the cell, or remove the line",
        ),
        (
            "two digits of the year",
            "t,y\n2021-01-05,1\n2021-01-06,2\n07/01/21,3\n",
            "refused, line 4, column t: '07/01/21' is not a time like '2021-01-05'; correct the cell, or remove the line",
        ),
    ]);
    let data = read("t,y\n2021-01-12,1\n13/01/2021,2\n14/01/2021,3\n").unwrap();
    let said = reported(&data, "warning");
    assert!(said.contains("written otherwise: '13/01/2021' (line 3), not as '2021-01-12'"), "{said}");
}

#[test]
fn days_and_months_in_two_orders_are_refused() {
    check(&[
        (
            "days first, then months first",
            "t,y\n15/01/2021,1\n02/01/2021,2\n02/13/2021,3\n",
            "refused, line 4, column t: '02/13/2021' has day and month in another order than '15/01/2021'; write all in one order",
        ),
        (
            "a typing error below another way of writing",
            "t,y\n2021-05-12,1\n13/05/2021,2\n05/14/2021,3\n",
            "refused, line 4, column t: '05/14/2021' has day and month in another order than '13/05/2021'; write all in one order",
        ),
        (
            "two orders, one of them with an hour",
            "t,y\n13/05/2021,1\n05/14/2021 00:00,2\n15/05/2021,3\n",
            "refused, line 3, column t: '05/14/2021 00:00' has day and month in another order than '13/05/2021'; write all in one order",
        ),
    ]);
}

#[test]
fn the_way_that_says_every_moment_is_written() {
    check(&[(
        "seconds, and the day of the week without them",
        "t,y\n\"Tue, 05 Jan 2021 06:00\",1\n2021-01-05 06:00:30,2\n2021-01-05 06:01:00,3\n2021-01-05 06:01:30,4\n",
        "2021-01-05 06:00:00 [1.0, 2.0, 3.0, 4.0] -> 2021-01-05 06:02:00 | 2021-01-05 06:02:30",
    )]);
}

#[test]
fn names_that_are_times_have_no_other_name_after_them() {
    let rows = "A,1,2,3,9\nB,2,3,4,9\n";
    let refused = |first: &str, last: &str, other: &str| {
        format!(
            "refused, line 1: the names {first} to {last} are times, and '{other}' after them is none; remove or correct it, or say \
             --layout long if rows are no series"
        )
    };
    let mut failures = Vec::new();
    for (names, first, last, other) in [
        ("c,2000,2001,2002,Total", "2000", "2002", "Total"),
        ("c,2000,2001,2002,Change in %", "2000", "2002", "Change in %"),
        ("c,2000,2001,2002,2003e", "2000", "2002", "2003e"),
        ("c,2000-01,2000-02,2000-03,Sum", "2000-01", "2000-03", "Sum"),
    ] {
        let found = summary(read(format!("{names}\n{rows}")));
        if found != refused(first, last, other) {
            failures.push(found);
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    // A gap, a year that comes twice, and a note: the first line is names, too.
    for (table, expected) in [
        ("c,2000,2001,2002,2004\nA,1,2,3,4\nB,2,3,4,5\n", "the names go on with '2004' where 2003 is next"),
        ("c,2000,2001,2002,2000\nA,1,2,3,4\nB,2,3,4,5\n", "'2000 (5)' after them is none"),
        ("c,2000,2001,2002,Note\nA,1,2,3,ok\nB,2,3,4,ok\n", "'Note' after them is none"),
    ] {
        let found = summary(read(table));
        assert!(found.contains(expected), "{found}");
    }
    let long = ReadOptions::new().layout("long".parse().unwrap());
    assert!(read_with(format!("c,2000,2001,2002,Total\n{rows}"), long).is_ok());
    assert_eq!(
        summary(read("c,2000,2001,2002\nA,1,2,3\nB,2,3,4\n")),
        "A: 2000 [1.0, 2.0, 3.0] -> 2003 | 2004; B: 2000 [2.0, 3.0, 4.0] -> 2003 | 2004"
    );
}

#[test]
fn one_id_in_two_ways_of_writing_is_refused() {
    let table = |ids: [&str; 4]| {
        let other = if ids[0].starts_with(|c: char| c.is_ascii_digit()) { "5" } else { "s" };
        let rows = (1..=16).flat_map(|day| {
            [(other, 1), (ids[(day - 1) / 4], 9)]
                .map(|(id, y)| format!("2024-01-{day:02},{id},{}\n", y + day % 3))
        });
        format!("date,shop,y\n{}", rows.collect::<String>())
    };
    for ids in [
        ["North", "North", "north", "north"],
        ["1", "1", "1.0", "1.0"],
        ["7", "7", "007", "007"],
        ["x 1", "x 1", "X-1", "X-1"],
    ] {
        let found = summary(read(table(ids)));
        let expected = format!("'{}' and '{}' may be one series; write them alike", ids[2], ids[0]);
        assert!(found.contains(&expected), "{found}");
        let asked = read_with(table(ids), ReadOptions::new().ids(["shop"])).unwrap();
        assert!(reported(&asked, "warning").contains("are taken for two series"));
    }
    for ids in [
        ["12345678901234567", "12345678901234567", "12345678901234568", "12345678901234568"],
        ["1-1", "1-1", "11", "11"],
        ["-5", "-5", "05", "05"],
    ] {
        let found = summary(read(table(ids)));
        assert!(!found.contains("may be one series"), "{found}");
    }
    // Both at the same moments are two.
    let both = "date,shop,y\n2024-01-01,a,1\n2024-01-01,A,2\n2024-01-02,a,3\n2024-01-02,A,4\n";
    assert!(summary(read(both)).starts_with("a: 2024-01-01 [1.0, 3.0]"));
}

/// The bytes of a text in an encoding.
fn bytes(text: &str, label: &str) -> Vec<u8> {
    let encoding = encoding_rs::Encoding::for_label(label.as_bytes()).unwrap();
    // Mac Roman has no encoder that maps the euro sign: none is used here.
    let (bytes, _, bad) = encoding.encode(text);
    assert!(!bad, "{text} in {label}");
    bytes.into_owned()
}

fn table(date: &str, names: &[&str], rows: &[&str]) -> String {
    let mut text = format!("{date};{}\n", names.join(";"));
    for (at, row) in rows.iter().cycle().take(12).enumerate() {
        text += &format!("2024-01-{:02};{row};{}\n", at + 1, 3 * at + 5);
    }
    text
}

#[test]
fn encodings_are_guessed_and_said() {
    let cases = [
        ("windows-1252", "Windows-1252", table("Datum", &["Größe", "Erlös"], &["Küche", "Bäder", "Flöße"])),
        (
            "windows-1252",
            "Windows-1252",
            table("date", &["Catégorie", "Quantité"], &["Électronique", "Bébé", "Été"]),
        ),
        (
            "windows-1250",
            "windows-1250",
            table("Datum", &["Město", "Prodej zboží"], &["Plzeň", "Třebíč", "České Budějovice"]),
        ),
        (
            "windows-1250",
            "windows-1250",
            table("Data", &["Miasto", "Sprzedaż"], &["Łódź", "Wałbrzych", "Gdańsk", "Żary"]),
        ),
        (
            "windows-1251",
            "windows-1251",
            table("Дата", &["Город", "Продажи"], &["Москва", "Казань", "Тверь"]),
        ),
        ("macintosh", "Mac Roman", table("Datum", &["Größe", "Erlös"], &["Küche", "Bäder", "Flöße"])),
        (
            "macintosh",
            "Mac Roman",
            table("date", &["Catégorie", "Quantité"], &["Électronique", "Bébé", "Été"]),
        ),
        ("shift_jis", "Shift_JIS", table("日付", &["店舗", "売上高"], &["東京", "大阪", "名古屋"])),
        ("gbk", "GBK", table("日期", &["城市", "销售额"], &["北京", "上海", "广州"])),
    ];
    let mut failures = Vec::new();
    for (label, name, text) in &cases {
        let encoded = match *label {
            "macintosh" => text.chars().map(mac_roman).collect(),
            label => bytes(text, label),
        };
        let found = match read(&encoded) {
            Ok(data) => data,
            Err(error) => {
                failures.push(format!("{label}: {error}"));
                continue;
            }
        };
        let target = text.lines().next().unwrap().rsplit(';').next().unwrap();
        let said = reported(&found, "warning");
        if found.targets() != [target] || !said.contains(&format!("{name} guessed, ")) {
            failures.push(format!("{label} ({target}): read {:?}, {said}", found.targets()));
        }
        let forced =
            read_with(&encoded, ReadOptions::new().encoding(label.parse::<Encoding>().unwrap())).unwrap();
        assert_eq!(forced.targets(), [target]);
        assert!(!reported(&forced, "warning").contains("guess"));
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn broken_utf8_is_refused_though_it_reads_as_pairs() {
    let mut broken = b"\xe6\x97\xa5\xe6\x9c\x9f,\xe5\x9f\x8e\xe5\xb8\x82\n1,2\n2,3\n".to_vec();
    broken.extend("北京,上海,".as_bytes());
    for ending in [&b"\xe5\x8c\n"[..], b"\xb0\xb0\n"] {
        let bytes = [&broken[..], ending].concat();
        assert!(summary(read(bytes)).contains("not UTF-8 text, though other lines are"));
    }
}

#[test]
fn letters_far_into_a_text_count() {
    let said = |shop: &dyn Fn(usize) -> &'static str, label: &str| {
        let rows: String = (0..90_000).map(|row| format!("{},{row},{}\n", shop(row), row % 7)).collect();
        let text = bytes(&format!("shop,t,y\n{rows}"), label);
        assert!(text.len() > (1 << 20) + 10_000);
        reported(&read_with(&text, ReadOptions::new().no_time().targets(["y"])).unwrap(), "warning")
    };
    let late = said(
        &|row| if row < 89_990 { "shop" } else { ["Москва", "Казань", "Тверь"][row % 3] },
        "windows-1251",
    );
    assert!(late.contains("windows-1251 guessed, likely: '"), "{late}");
    // A character of two bytes may lie across the end of what is looked at.
    for shops in [["北京市", "上海市", "广州市"], ["北京x", "上海市", "广州市"], ["北京市", "上海y", "广州"]]
    {
        let early = said(&|row| shops[row % 3], "gbk");
        assert!(early.contains("GBK guessed, likely: '"), "{early}");
    }
}

/// The byte of a letter in Mac Roman, for those used here.
fn mac_roman(c: char) -> u8 {
    match c {
        'ö' => 0x9a,
        'ß' => 0xa7,
        'ü' => 0x9f,
        'ä' => 0x8a,
        'é' => 0x8e,
        'É' => 0x83,
        c => u8::try_from(u32::from(c)).ok().filter(u8::is_ascii).unwrap(),
    }
}

#[test]
fn a_guess_says_how_sure_it_is_and_what_else_it_may_be() {
    let said = |bytes: &[u8]| reported(&read(bytes).unwrap(), "warning");
    let few = said(b"t,Gr\xf6\xdfe\n1,4\n2,7\n");
    assert!(few.starts_with("Windows-1252 guessed, few letters: 'Größe'; or --encoding"), "{few}");
    let signs = said(b"t,\xb0C\n1,4\n2,7\n");
    assert!(signs.starts_with("Windows-1252 guessed, by signs alone; or --encoding"), "{signs}");
    let czech =
        said(&bytes(&table("Datum", &["Město", "Prodej zboží"], &["Plzeň", "Třebíč"]), "windows-1250"));
    assert!(
        czech.starts_with("windows-1250 guessed, likely: 'Město', not 'Mìsto'; or --encoding"),
        "{czech}"
    );
    for (name, shown) in [
        ("latin2", "ISO-8859-2"),
        ("cp1251", "windows-1251"),
        ("Mac-Roman", "Mac Roman"),
        ("sjis", "Shift_JIS"),
        ("cp936", "GBK"),
        ("windows_1250", "windows-1250"),
        ("EUC-KR", "EUC-KR"),
        ("latin1", "Windows-1252"),
    ] {
        assert_eq!(name.parse::<Encoding>().unwrap().to_string(), shown);
    }
    for name in ["utf-7", "replacement", "ebcdic", "x-user-defined"] {
        assert!(name.parse::<Encoding>().unwrap_err().to_string().contains(name));
    }
    let broken = summary(read_with(
        b"a,b\n1,2\n\x81\x20,3\n",
        ReadOptions::new().encoding("shift-jis".parse().unwrap()),
    ));
    assert_eq!(
        broken,
        "refused, line 3: not Shift_JIS text; say another --encoding, or save the table in UTF-8"
    );
}
