//! The codes of `strftime`, as parts of a time.

use super::format::Item;

/// The part of a time that a letter after a percent sign stands for.
pub(super) fn item(code: char) -> Option<Item> {
    Some(match code {
        '%' => Item::Literal('%'),
        'Y' => Item::Year,
        'y' => Item::YearOfCentury,
        'm' => Item::Month,
        'b' | 'h' => Item::MonthName { language: 0, full: false },
        'B' => Item::MonthName { language: 0, full: true },
        'd' | 'e' => Item::Day,
        'j' => Item::DayOfYear,
        'q' => Item::Quarter,
        'J' => Item::Half,
        'N' => Item::NextYear { full: true },
        'n' => Item::NextYear { full: false },
        'G' => Item::Year,
        'V' => Item::Week,
        'u' => Item::WeekDay,
        'a' => Item::WeekDayName { full: false },
        'A' => Item::WeekDayName { full: true },
        'H' => Item::Hour,
        'I' => Item::Hour12,
        'M' => Item::Minute,
        'S' => Item::Second,
        'f' => Item::Fraction,
        'p' => Item::AmPm,
        'z' => Item::Offset,
        's' => Item::Epoch(0),
        _ => return None,
    })
}

/// Numbers that touch, as in `%Y%m%d`, have fixed widths.
pub(super) fn fixed_widths(items: Vec<Item>) -> Vec<Item> {
    let fixed = |item: Item| match item {
        Item::Year => Some(Item::FixedYear),
        Item::Month => Some(Item::FixedMonth),
        Item::Day => Some(Item::FixedDay),
        Item::Hour => Some(Item::FixedHour),
        Item::Minute => Some(Item::FixedMinute),
        Item::Second => Some(Item::FixedSecond),
        _ => None,
    };
    let touches = |at: usize| {
        let digits = |other: Option<&Item>| other.is_some_and(|item| fixed(*item).is_some());
        digits(items.get(at + 1)) || at > 0 && digits(items.get(at - 1))
    };
    let choose = |(at, item): (usize, &Item)| if touches(at) { fixed(*item).unwrap_or(*item) } else { *item };
    items.iter().enumerate().map(choose).collect()
}
