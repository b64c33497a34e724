//! Parquet files, written by pyarrow: pandas' own types, and others that tables have.

use super::{reported, summary};
use gatefold_series::{Dataset, Fill, ReadOptions, SeriesError};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn file(name: &str, options: &ReadOptions) -> Result<Dataset, SeriesError> {
    Dataset::read(format!("{}/tests/fixtures/{name}.parquet", env!("CARGO_MANIFEST_DIR")), options)
}

#[test]
fn a_table_of_pandas_is_read() {
    let data = file("pandas", &ReadOptions::new().targets(["y"]));
    let expected = "n: 2024-02-27 [1.5, 2.25] -> 2024-02-29 | 2024-03-01; s: 2024-02-27 [0.1, -4.0] -> 2024-02-29 | 2024-03-01";
    assert_eq!(summary(data), expected);
    let data = file("pandas", &ReadOptions::new().targets(["y"])).unwrap();
    assert_eq!(reported(&data, "table"), "pandas.parquet, 4 rows, 4 columns, Parquet");
}

#[test]
fn other_types_are_read() {
    let read = |time: &str, target: &str| {
        summary(file("types", &ReadOptions::new().time([time]).targets([target]).fill(Fill::Linear)))
    };
    assert_eq!(read("day", "x"), "2024-02-28 [1.0, 2.0, 4.0] -> 2024-03-02 | 2024-03-03");
    assert_eq!(
        read("utc", "x"),
        "2024-01-01T00:00:00Z [1.0, 2.0, 4.0] -> 2024-01-01T03:00:00Z | 2024-01-01T04:00:00Z"
    );
    let middle = (f64::from(0.1f32) + 3.5) / 2.0;
    assert_eq!(
        read("day", "f32"),
        format!("2024-02-28 [{:?}, {middle:?}, 3.5] -> 2024-03-02 | 2024-03-03", f64::from(0.1f32))
    );
    assert_eq!(read("day", "dec"), "2024-02-28 [1.25, -2.5] +1 -> 2024-03-01 | 2024-03-02");
}

#[test]
fn nested_columns_and_damaged_files_are_refused() {
    let error = file("nested", &ReadOptions::new()).unwrap_err().to_string();
    assert!(error.contains("nested; write one number, text or time per cell"), "{error}");
    let path = format!("{}/tests/fixtures/pandas.parquet", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).unwrap();
    for end in [4, 20, bytes.len() / 2, bytes.len() - 1] {
        let error =
            Dataset::from_bytes("t", bytes[..end].to_vec(), &ReadOptions::new()).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_thousand_damaged_files_do_not_panic() {
    let path = format!("{}/tests/fixtures/pandas.parquet", env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::read(path).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(11);
    for _ in 0..1000 {
        let mut bytes = file.clone();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(4..bytes.len());
            bytes[at] = random.random_range(0..=255);
        }
        if let Err(error) = Dataset::from_bytes("t", bytes, &ReadOptions::new()) {
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}
