//! Damaged tables are read or refused; nothing panics.

use super::read;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const TABLES: [&str; 8] = [
    "date,y\n2001-01,1.5\n2001-02,2.5\n2001-03,3.5\n2001-04,1\n",
    "sep=;\nDatum;Größe in °C\n27.02.2024 23:00;1.234,5\n28.02.2024 00:00;(2,5)\n",
    "# by hand\n\"date\",\"sales, net\n(EUR)\"\n\"Jan 02, 2023\",\"$1,049.31\"\n\"Jan 01, 2023\",\"$57.37\"\n\nend\n",
    "unique_id,t,y\nA,0,49.31\nA,1,57.37\nB,0,57.68\nB,1,53\n",
    "y,time\n60.49,1672531200\n63.04,1672534800\n66.32,1672538400\n",
    "\"V1\",\"V2\",\"V3\",\"V4\",\"V5\",\"V6\",\"V7\",\"V8\"\n\"H1\",\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\"\n\"H2\",\"9\",\"8\",,,,,\n",
    "time load\n2022-10-30T01:00:00+02:00[Europe/Berlin] 60.49\n2022-10-30T02:00:00+02:00[Europe/Berlin] 63.04\n",
    "shop,2023-Q3,2023-Q4,2024-Q1\nn,1%,2%,3%\ns,,5%,6%\n",
];

#[test]
fn ten_thousand_damaged_tables_do_not_panic() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let alphabet: Vec<u8> = b"0123456789.,;:-/+TZQWe\"'# \t\r\n()%$[]\x00\x1a\x80\xff\xc3\xa4".to_vec();
    let mut read_ones = 0;
    for round in 0..10_000 {
        let mut bytes = TABLES[round % TABLES.len()].as_bytes().to_vec();
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..bytes.len());
            let byte = alphabet[random.random_range(0..alphabet.len())];
            match random.random_range(0..4) {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {
                    let to = random.random_range(at..bytes.len());
                    let copy = bytes[at..=to].to_vec();
                    bytes.splice(at..at, copy);
                }
            }
        }
        match read(&bytes) {
            Ok(data) => {
                read_ones += 1;
                for series in data.series() {
                    assert!(
                        (0..data.targets().len())
                            .all(|target| series.target(target).iter().all(|value| value.is_finite()))
                    );
                    let end = series.start() + series.len() as i64;
                    data.calendar().labels(end..end + 3);
                }
                assert!(data.report().to_string().lines().all(|line| line.chars().count() <= 76));
            }
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
        }
    }
    assert!(read_ones > 1000, "only {read_ones} of the damaged tables were still tables");
}
