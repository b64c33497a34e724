//! Parquet, as the text of a table with commas, so that every later stage is the same.
//!
//! Numbers are written with all their digits and read back to the same bits.

use super::source::Source;
use super::{Delimiter, Encoding};
use crate::SeriesError;
use crate::calendar::stamp::{DAY, clock};
use crate::dataset::ReadOptions;
use bytes::Bytes;
use jiff::tz;
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::ColumnDescriptor;

/// How the values of a column are written.
#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    /// The values are moments, of so many units to the microsecond.
    moment: bool,
    nanos: bool,
    utc: bool,
    /// Some moment is not at midnight, or not at a whole second.
    clock: bool,
    fraction: bool,
}

/// The table as text in UTF-8: names, then a line per row.
pub(super) fn text(source: &Source, bytes: Vec<u8>) -> Result<Vec<u8>, SeriesError> {
    let problem = |error: ParquetError| source.table(format!("Parquet: {error}").replace('\n', " "));
    let reader = SerializedFileReader::new(Bytes::from(bytes)).map_err(problem)?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let mut kinds =
        schema.columns().iter().map(|column| kind(source, column)).collect::<Result<Vec<_>, _>>()?;
    // Once over the moments, so that all of a column are written alike.
    for row in reader.get_row_iter(None).map_err(problem)? {
        for ((_, field), kind) in row.map_err(problem)?.get_column_iter().zip(&mut kinds) {
            let micros = moment(field, *kind).unwrap_or(0);
            kind.clock |= micros.rem_euclid(DAY) != 0;
            kind.fraction |= micros.rem_euclid(1_000_000) != 0;
        }
    }
    let names: Vec<String> = schema.columns().iter().map(|column| quoted(column.name())).collect();
    let mut out = names.join(",") + "\n";
    for row in reader.get_row_iter(None).map_err(problem)? {
        for (at, ((_, field), kind)) in row.map_err(problem)?.get_column_iter().zip(&kinds).enumerate() {
            out.push_str(if at > 0 { "," } else { "" });
            write_field(&mut out, field, *kind);
        }
        out.push('\n');
    }
    Ok(out.into_bytes())
}

/// The options under which that text is read.
pub(super) fn options(asked: &ReadOptions) -> ReadOptions {
    let mut options =
        asked.clone().encoding(Encoding::Utf8).delimiter(Delimiter::Char(b',')).header(true).decimal('.');
    (options.thousands, options.skip, options.comment) = (None, None, None);
    options
}

/// Refuses columns whose values are no single numbers, texts or moments.
fn kind(source: &Source, column: &ColumnDescriptor) -> Result<Kind, SeriesError> {
    let nested = column.max_rep_level() > 0 || column.path().parts().len() > 1;
    let (physical, converted) = (column.physical_type(), column.converted_type());
    let supported = match (physical, converted) {
        (Type::BOOLEAN | Type::FLOAT | Type::DOUBLE | Type::INT96, ConvertedType::NONE) => true,
        (Type::INT32, ConvertedType::TIME_MILLIS) | (Type::INT64, ConvertedType::TIME_MICROS) => false,
        (Type::INT32 | Type::INT64, _) => true,
        (Type::BYTE_ARRAY, ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::DECIMAL) => true,
        (Type::FIXED_LEN_BYTE_ARRAY, ConvertedType::DECIMAL) => true,
        _ => false,
    };
    if nested || !supported {
        let problem = format!(
            "column {} of the Parquet file holds values of type {physical}, {converted}{}; write one number, text or \
             time per cell",
            super::shown(column.name()),
            if nested { ", nested" } else { "" }
        );
        return Err(source.table(problem));
    }
    Ok(match column.logical_type_ref() {
        Some(LogicalType::Timestamp(stamp)) => Kind {
            moment: true,
            nanos: stamp.unit == TimeUnit::NANOS,
            utc: stamp.is_adjusted_to_u_t_c,
            ..Kind::default()
        },
        _ => Kind { moment: physical == Type::INT96, ..Kind::default() },
    })
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// Microseconds since 1970, if the value is a moment.
fn moment(field: &Field, kind: Kind) -> Option<i64> {
    match field {
        Field::TimestampMicros(value) => Some(*value),
        Field::TimestampMillis(value) => Some(value.saturating_mul(1000)),
        Field::Long(value) if kind.moment => Some(if kind.nanos { value.div_euclid(1000) } else { *value }),
        _ => None,
    }
}

fn write_field(out: &mut String, field: &Field, kind: Kind) {
    if let Some(micros) = moment(field, kind) {
        let moment = clock(micros, tz::Offset::UTC);
        let text = match (kind.clock, kind.fraction) {
            (_, true) => format!("{moment:.6}"),
            (true, false) => moment.to_string(),
            (false, false) => moment.date().to_string(),
        };
        out.push_str(&text);
        out.push_str(if kind.utc && kind.clock { "Z" } else { "" });
        return;
    }
    match field {
        Field::Null => {}
        Field::Float(value) if value.is_nan() => {}
        Field::Double(value) if value.is_nan() => {}
        Field::Date(days) => out.push_str(&clock(i64::from(*days) * DAY, tz::Offset::UTC).date().to_string()),
        Field::Float(value) => out.push_str(&f64::from(*value).to_string()),
        Field::Double(value) => out.push_str(&value.to_string()),
        Field::Str(text) => out.push_str(&quoted(text)),
        other => out.push_str(&other.to_string()),
    }
}
