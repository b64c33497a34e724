//! Names that say that a column holds a time, or a part of one.

use crate::calendar::format::Item;

/// Further names of columns that hold a time, if they hold text.
const TEXT_TIME_NAMES: [&str; 30] = [
    "saison",
    "season",
    "fiscal year",
    "fiscal period",
    "fiscal quarter",
    "fy",
    "geschäftsjahr",
    "school year",
    "quartal",
    "trimestre",
    "kwartaal",
    "kw",
    "woche",
    "semaine",
    "semana",
    "settimana",
    "halbjahr",
    "half",
    "half year",
    "semester",
    "semestre",
    "mois",
    "mes",
    "mese",
    "maand",
    "année",
    "annee",
    "año",
    "anno",
    "moment",
];

/// Names of columns that hold a time.
const TIME_NAMES: [&str; 40] = [
    "elapsed",
    "elapsed time",
    "kw",
    "datenum",
    "jd",
    "mjd",
    "julian date",
    "excel",
    "date",
    "time",
    "timestamp",
    "datetime",
    "ds",
    "t",
    "year",
    "month",
    "day",
    "week",
    "quarter",
    "period",
    "datum",
    "zeit",
    "zeitstempel",
    "jahr",
    "fecha",
    "epoch",
    "unix",
    "ts",
    "step",
    "index",
    "idx",
    "row",
    "hour",
    "minute",
    "second",
    "seconds",
    "ms",
    "tag",
    "monat",
    "unnamed: 0",
];

/// Parts of a time that have a column of their own, by the column's name.
const PARTS: [(Item, &[&str]); 8] = [
    (Item::WeekDay, &["weekday", "week day", "day of week", "dayofweek", "dow", "wochentag"]),
    (Item::Year, &["year", "yr", "yyyy", "jahr", "annee", "année", "ano", "año", "anno", "jaar"]),
    (Item::Quarter, &["quarter", "qtr", "q", "quartal", "trimestre", "kwartaal"]),
    (Item::Month, &["month", "mon", "mo", "mm", "monat", "mes", "mois", "mese", "maand"]),
    (Item::Week, &["week", "wk", "woche", "semaine", "semana", "settimana", "kw"]),
    (Item::Day, &["day", "dd", "dy", "tag", "dia", "día", "jour", "giorno"]),
    (
        Item::Hour,
        &[
            "hour",
            "hr",
            "hh",
            "he",
            "hour ending",
            "hourending",
            "hour end",
            "hour of day",
            "stunde",
            "std",
            "hora",
            "heure",
            "ora",
            "uur",
        ],
    ),
    (Item::Minute, &["minute", "min"]),
];

/// Whether a name says that the column holds times: a word of the list, with a unit perhaps, or one that ends so.
pub(super) fn is_time_name(name: &str) -> bool {
    let name = name.trim_start_matches('#').trim_matches(['<', '>']).trim().to_lowercase();
    let bare = name.split(['(', '[']).next().unwrap_or("").trim();
    let bare = ["_s", "_ms", "_us", "_utc"].iter().find_map(|unit| bare.strip_suffix(unit)).unwrap_or(bare);
    let ends = ["date", "datum", "timestamp", "datetime", "_time", " time"];
    TIME_NAMES.contains(&name.as_str())
        || TIME_NAMES.contains(&bare)
        || ends.iter().any(|end| bare.ends_with(end))
}

/// Whether a name says that the column holds whole dates.
pub(super) fn is_date_name(name: &str) -> bool {
    let name = name.trim_start_matches('#').trim_matches(['<', '>']).trim().to_lowercase();
    ["fecha", "datetime", "ds"].contains(&name.as_str()) || name.ends_with("date") || name.ends_with("datum")
}

/// Whether a name says that the column holds weeks.
pub(super) fn is_week_name(name: &str) -> bool {
    let name = name.to_lowercase();
    let words = ["kw", "semaine", "semana", "settimana", "yyyyww", "yw"];
    !name.contains("weekday") && (name.contains("week") || name.contains("woche"))
        || words.iter().any(|word| name == *word)
}

/// The part of a time that a name says.
pub(super) fn part(name: &str) -> Option<Item> {
    let name = name.to_lowercase().replace('_', " ");
    let numbered = [" no", " nr", " number", " num", " nummer", "number", "num", "nummer"];
    let name = numbered.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    PARTS.iter().find(|(_, names)| names.contains(&name)).map(|(item, _)| *item)
}

/// Whether a name says that the years of a column may begin in another month than January.
pub(super) fn is_fiscal_year(name: &str) -> bool {
    let name = name.trim().to_lowercase().replace(['_', '-', '.'], " ");
    let names = ["fy", "fyear", "geschäftsjahr", "wirtschaftsjahr", "season", "saison"];
    let years = [
        "fiscal year",
        "fiscalyear",
        "financial year",
        "school year",
        "crop year",
        "marketing year",
        "water year",
    ];
    names.contains(&name.as_str()) || years.iter().any(|year| name.starts_with(year))
}

/// Whether a name says that a column of text should hold times.
pub(super) fn is_text_time_name(name: &str) -> bool {
    let name = name.trim().to_lowercase().replace('_', " ");
    is_time_name(&name) || TEXT_TIME_NAMES.contains(&name.as_str())
}
