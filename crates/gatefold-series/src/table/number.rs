//! Numbers as people write them: marks, signs, currencies.

use super::Delimiter;
use std::fmt;

/// How a column writes its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NumberFormat {
    pub(crate) decimal: char,
    /// Point or comma between thousands, if the column may have it. Spaces and apostrophes always may.
    pub(crate) thousands: Option<char>,
}

impl NumberFormat {
    /// The value of a cell; `None` if it is no finite number in this format.
    pub(crate) fn parse(self, cell: &str) -> Option<f64> {
        let plain = self.decimal == '.'
            && cell
                .bytes()
                .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E'));
        let grouped = self.thousands == Some('.') && cell.contains('.');
        if plain && !grouped {
            return finite(cell);
        }
        let core = Core::of(cell)?;
        let (mantissa, exponent) = core.split_exponent();
        let (whole, fraction) = match mantissa.rsplit_once(self.decimal) {
            Some((whole, fraction)) => (whole, fraction),
            None => (mantissa, ""),
        };
        if !fraction.bytes().all(|byte| byte.is_ascii_digit()) || whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let mut text = String::with_capacity(cell.len() + 2);
        if core.negative {
            text.push('-');
        }
        self.push_whole(whole, &mut text)?;
        text.push('.');
        text.push_str(if fraction.is_empty() { "0" } else { fraction });
        text.push_str(exponent);
        finite(&text)
    }

    /// Appends the digits of the whole part, if its groups are right.
    fn push_whole(self, whole: &str, text: &mut String) -> Option<()> {
        if whole.is_empty() {
            text.push('0');
            return Some(());
        }
        let mark = whole.chars().find(|c| !c.is_ascii_digit());
        let Some(mark) = mark else {
            text.push_str(whole);
            return Some(());
        };
        if !(is_space_mark(mark) || Some(mark) == self.thousands) || !well_grouped(whole, mark) {
            return None;
        }
        text.extend(whole.chars().filter(char::is_ascii_digit));
        Some(())
    }
}

fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// Spaces of all widths and apostrophes, which separate thousands and nothing else.
fn is_space_mark(c: char) -> bool {
    matches!(c, ' ' | '\u{a0}' | '\u{2009}' | '\u{202f}' | '\'' | '\u{2019}')
}

/// Whether the digits are in groups of three; after a comma also of two, as in 12,34,567, but for the last.
fn well_grouped(whole: &str, mark: char) -> bool {
    let groups: Vec<&str> = whole.split(mark).collect();
    let digits =
        groups.iter().all(|group| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit()));
    let middle = |group: &&str| group.len() == 3 || mark == ',' && group.len() == 2;
    let last = groups.len() - 1;
    digits
        && last > 0
        && groups[0].len() <= 3
        && !(groups[0].starts_with('0'))
        && groups[last].len() == 3
        && groups[1..last].iter().all(middle)
}

/// A cell without its sign, currency, percent sign and parentheses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Core<'a> {
    pub(crate) digits: &'a str,
    pub(crate) negative: bool,
    pub(crate) parentheses: bool,
    /// A currency or a percent sign.
    pub(crate) unit: Option<&'a str>,
}

const SYMBOLS: &str = "$€£¥₹₽₩₺₫₪฿₴₦₱";
const CODES: [&str; 26] = [
    "USD", "EUR", "GBP", "JPY", "CHF", "CNY", "RMB", "INR", "AUD", "CAD", "NZD", "SEK", "NOK", "DKK", "PLN",
    "CZK", "HUF", "BRL", "MXN", "ZAR", "RUB", "US$", "R$", "Fr.", "kr", "zł",
];

fn is_unit(text: &str) -> bool {
    let mut chars = text.chars();
    let symbol = chars.next().is_some_and(|c| SYMBOLS.contains(c)) && chars.next().is_none();
    symbol || CODES.contains(&text) || matches!(text, "%" | "Kč" | "Ft")
}

impl<'a> Core<'a> {
    /// `None` if what is left is not made of digits and marks.
    pub(crate) fn of(cell: &'a str) -> Option<Core<'a>> {
        let mut core = Core { digits: cell.trim(), negative: false, parentheses: false, unit: None };
        if let Some(inner) = core.digits.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            core = Core { digits: inner.trim(), negative: true, parentheses: true, unit: None };
        }
        let mut signed = core.parentheses;
        // A sign and a currency, in either order.
        for _ in 0..2 {
            if let Some(rest) = core.digits.strip_prefix(['-', '+', '\u{2212}']) {
                if signed {
                    return None;
                }
                (core.negative, signed) = (!core.digits.starts_with('+'), true);
                core.digits = rest.trim_start();
            }
            let prefix =
                core.digits.find(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '\u{2212}'))?;
            let prefix = core.digits[..prefix].trim_end_matches(['.', ',']);
            let prefix = if is_unit(prefix.trim()) { prefix } else { unit_before(core.digits) };
            if !prefix.is_empty() && core.unit.is_none() {
                core.unit = Some(prefix.trim());
                core.digits = core.digits[prefix.len()..].trim_start();
            }
        }
        let end = core.digits.rfind(|c: char| c.is_ascii_digit())? + 1;
        let suffix = core.digits[end..].trim_start_matches(['.', ',']);
        if !suffix.trim().is_empty() {
            if core.unit.is_some() || !is_unit(suffix.trim()) {
                return None;
            }
            core.unit = Some(suffix.trim());
            core.digits = core.digits[..core.digits.len() - suffix.len()].trim_end();
        }
        let (mantissa, _) = core.split_exponent();
        let marks = |c: char| c.is_ascii_digit() || c == '.' || c == ',' || is_space_mark(c);
        (!mantissa.is_empty() && mantissa.chars().all(marks)).then_some(core)
    }

    /// The digits, and an exponent such as `e-3`.
    fn split_exponent(&self) -> (&'a str, &'a str) {
        if let Some(at) = self.digits.find(['e', 'E']) {
            let (mantissa, exponent) = self.digits.split_at(at);
            let power = exponent[1..].trim_start_matches(['-', '+']);
            let signs = exponent.len() - 1 - power.len();
            if signs <= 1 && !power.is_empty() && power.bytes().all(|byte| byte.is_ascii_digit()) {
                return (mantissa, exponent);
            }
        }
        (self.digits, "")
    }
}

/// A currency that ends with a point, which is no part of the number: `Fr.12`.
fn unit_before(text: &str) -> &str {
    CODES
        .iter()
        .find(|code| code.ends_with('.') && text.starts_with(**code))
        .map_or("", |code| &text[..code.len()])
}

/// Whether a cell is a number in some format.
pub(crate) fn looks_numeric(cell: &str) -> bool {
    let Some(core) = Core::of(cell) else { return false };
    let english = NumberFormat { decimal: '.', thousands: Some(',') };
    let german = NumberFormat { decimal: ',', thousands: Some('.') };
    core.digits.len() <= 400 && (english.parse(cell).is_some() || german.parse(cell).is_some())
}

/// An example of a way of writing: the cell, and its row.
type Example = Option<(usize, String)>;

/// Evidence about the marks of a column, over all its cells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    point_decimal: Example,   // 1.5
    comma_decimal: Example,   // 1,5
    point_thousands: Example, // 1.234.567
    comma_thousands: Example, // 1,234,567
    point_either: Example,    // 1.024
    comma_either: Example,    // 1,024
    short: Example,           // 987
    long: bool,               // 1024
    both: bool,               // 1,234.5
    pub(crate) spaced: bool,  // 1 024
    pub(crate) parentheses: bool,
    pub(crate) unit: Option<String>,
    /// A second currency, or a cell without the unit of the others.
    pub(crate) odd_unit: Example,
    cells: usize,
}

/// Marks that can be read in two ways, with an example.
#[derive(Clone, Debug)]
pub(crate) struct Unclear {
    pub(crate) row: usize,
    pub(crate) problem: String,
}

fn note(example: &mut Example, row: usize, cell: &str) {
    if example.is_none() {
        *example = Some((row, cell.to_owned()));
    }
}

impl Marks {
    /// Notes a cell; `false` if it is no number in any format.
    pub(crate) fn note(&mut self, row: usize, cell: &str) -> bool {
        if self.note_plain(row, cell) || self.note_both(row, cell) {
            return true;
        }
        let Some(core) = Core::of(cell) else { return false };
        let (mantissa, _) = core.split_exponent();
        if !self.note_marks(row, cell, mantissa) {
            return false;
        }
        self.parentheses |= core.parentheses;
        let unit = core.unit.map(str::to_owned);
        if self.cells > 0 && unit != self.unit {
            note(&mut self.odd_unit, row, cell);
        }
        self.unit = self.unit.take().or(unit);
        self.cells += 1;
        true
    }

    /// Notes a cell of digits with a point at most, as nearly all are, without looking twice.
    fn note_plain(&mut self, row: usize, cell: &str) -> bool {
        let digits = cell.strip_prefix('-').unwrap_or(cell).as_bytes();
        let count = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let whole = count(digits);
        let slot = match digits.get(whole) {
            None if whole > 0 => (whole <= 3).then_some(&mut self.short),
            Some(b'.') if whole > 0 => {
                let fraction = count(&digits[whole + 1..]);
                if fraction == 0 || whole + 1 + fraction < digits.len() {
                    return false;
                }
                let grouped = fraction == 3 && whole <= 3 && digits[0] != b'0';
                Some(if grouped { &mut self.point_either } else { &mut self.point_decimal })
            }
            _ => return false,
        };
        if let Some(slot) = slot
            && slot.is_none()
        {
            *slot = Some((row, cell.to_owned()));
        }
        self.long |= whole >= 4;
        if self.unit.is_some() {
            note(&mut self.odd_unit, row, cell);
        }
        self.cells += 1;
        true
    }

    /// Notes a cell such as `1,234.5` or `1.234,5`, whose last mark is that of decimals, without looking twice.
    fn note_both(&mut self, row: usize, cell: &str) -> bool {
        let digits = cell.strip_prefix('-').unwrap_or(cell);
        let Some(last) = digits.rfind(['.', ',']) else { return false };
        let (whole, fraction) = (&digits[..last], &digits[last + 1..]);
        let (thousands, slot) = match digits.as_bytes()[last] {
            b'.' => (',', &mut self.point_decimal),
            _ => ('.', &mut self.comma_decimal),
        };
        let plain = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
        if !plain || !well_grouped(whole, thousands) {
            return false;
        }
        note(slot, row, cell);
        self.both = true;
        if self.unit.is_some() {
            note(&mut self.odd_unit, row, cell);
        }
        self.cells += 1;
        true
    }

    fn note_marks(&mut self, row: usize, cell: &str, mantissa: &str) -> bool {
        let (points, commas) = (mantissa.matches('.').count(), mantissa.matches(',').count());
        let english = NumberFormat { decimal: '.', thousands: Some(',') };
        let german = NumberFormat { decimal: ',', thousands: Some('.') };
        let whole = mantissa.split(['.', ',']).next().unwrap_or("");
        let spaced = mantissa.chars().any(is_space_mark);
        let long = whole.len() >= 4 && !spaced;
        let fraction = mantissa.rsplit(['.', ',']).next().unwrap_or("").len();
        match (points, commas) {
            (0, 0) if english.parse(cell).is_none() => return false,
            (0, 0) if spaced || whole.len() > 3 => {}
            (0, 0) => note(&mut self.short, row, cell),
            (1, 0) | (0, 1) => {
                let grouped =
                    fraction == 3 && (1..=3).contains(&whole.len()) && !whole.starts_with('0') && !spaced;
                let valid = if points == 1 { english.parse(cell) } else { german.parse(cell) };
                if valid.is_none() {
                    return false;
                }
                let slot = match (points == 1, grouped) {
                    (true, true) => &mut self.point_either,
                    (true, false) => &mut self.point_decimal,
                    (false, true) => &mut self.comma_either,
                    (false, false) => &mut self.comma_decimal,
                };
                note(slot, row, cell);
            }
            _ if english.parse(cell).is_some() => {
                let slot = if points > 0 { &mut self.point_decimal } else { &mut self.comma_thousands };
                note(slot, row, cell);
            }
            _ if german.parse(cell).is_some() => {
                let slot = if commas > 0 { &mut self.comma_decimal } else { &mut self.point_thousands };
                note(slot, row, cell);
            }
            _ => return false,
        }
        self.both |= points > 0 && commas > 0;
        self.spaced |= spaced;
        self.long |= long;
        true
    }

    fn english(&self) -> Option<&(usize, String)> {
        self.point_decimal.as_ref().or(self.comma_thousands.as_ref())
    }

    fn german(&self) -> Option<&(usize, String)> {
        self.comma_decimal.as_ref().or(self.point_thousands.as_ref())
    }

    /// The decimal mark that this column proves.
    pub(crate) fn proven(&self) -> Option<char> {
        match (self.english(), self.german()) {
            (Some(_), None) => Some('.'),
            (None, Some(_)) => Some(','),
            (None, None) if self.long && self.point_either.is_some() != self.comma_either.is_some() => {
                Some(if self.point_either.is_some() { '.' } else { ',' }) // 1024 shows that nothing is grouped
            }
            _ => None,
        }
    }

    /// The column's format, as its own cells, then other columns (`hint`), then the delimiter tell.
    pub(crate) fn decide(&self, hint: Option<char>, delimiter: Delimiter) -> Result<NumberFormat, Unclear> {
        let format = |decimal: char| {
            let other = if decimal == '.' { ',' } else { '.' };
            Ok(NumberFormat { decimal, thousands: Some(other) })
        };
        let unclear = |(row, cell): &(usize, String), problem: String| {
            Err(Unclear { row: *row, problem: format!("'{}' {problem}", super::shown(cell)) })
        };
        if let (Some(a), Some(b)) = (self.english(), self.german()) {
            let (early, late) = if a.0 < b.0 { (a, b) } else { (b, a) };
            return unclear(
                late,
                format!(
                    "and '{}' take points and commas differently; write both alike, or say --decimal",
                    early.1
                ),
            );
        }
        if let (Some(a), Some(_)) = (&self.point_either, &self.comma_either)
            && self.proven().is_none()
        {
            return unclear(
                a,
                "is above or below a number with a comma; say --decimal . or --decimal ,".into(),
            );
        }
        if let Some(mark) = self.proven() {
            return format(mark);
        }
        let Some((mark, example)) = (match (&self.point_either, &self.comma_either) {
            (Some(example), _) => Some(('.', example)),
            (_, Some(example)) => Some((',', example)),
            _ => None,
        }) else {
            return format(hint.unwrap_or('.'));
        };
        if let Some(hint) = hint {
            return format(hint);
        }
        if self.looks_fixed(delimiter) {
            return format(mark);
        }
        let digits: String = example.1.chars().filter(char::is_ascii_digit).collect();
        let point = example.1.replace(',', ".");
        let value = point.trim_start_matches('+');
        unclear(example, format!("may mean {digits} or {value}; say --thousands {mark} or --decimal {mark}"))
    }

    /// Whether all cells have three digits after one mark, which is then that of decimals where the delimiter is the
    /// one that goes with it.
    fn looks_fixed(&self, delimiter: Delimiter) -> bool {
        let point = delimiter == Delimiter::Char(b',') && self.point_either.is_some();
        let comma = delimiter == Delimiter::Char(b';') && self.comma_either.is_some();
        self.short.is_none() && (point || comma)
    }

    /// A cell whose mark was taken for that of decimals for no other reason than the delimiter.
    pub(crate) fn doubtful(&self, delimiter: Delimiter) -> Option<&str> {
        let (_, cell) = self.comma_either.as_ref().or(self.point_either.as_ref())?;
        (self.proven().is_none() && self.looks_fixed(delimiter)).then_some(cell)
    }

    /// Whether any cell has a mark between its thousands under this format.
    pub(crate) fn has_thousands(&self, format: NumberFormat) -> bool {
        let (thousands, either) = match format.decimal {
            '.' => (&self.comma_thousands, &self.comma_either),
            _ => (&self.point_thousands, &self.point_either),
        };
        self.both || thousands.is_some() || either.is_some()
    }
}

impl fmt::Display for NumberFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.decimal == '.' { "decimal point" } else { "decimal comma" })
    }
}
