/// A date such as `1749-01` or `2012-01-31`; a time of day that follows it is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    pub(crate) year: i64,
    pub(crate) month: i64,
    pub(crate) day: Option<i64>,
}

impl Date {
    pub(crate) fn parse(label: &str) -> Option<Date> {
        let label = label.split(['T', ' ']).next()?;
        let mut parts = label.split(['-', '/', '.']);
        let mut part = |digits: usize| parts.next().map(|text| number(text, digits));
        let (year, month) = (part(4)??, part(2)??);
        let day = match part(2) {
            None => None,
            Some(day) => Some(day?),
        };
        let date = Date { year, month, day };
        let valid =
            (1..=12).contains(&month) && day.is_none_or(|day| (1..=days_in(year, month)).contains(&day));
        (valid && parts.next().is_none()).then_some(date)
    }

    fn months(self) -> i64 {
        self.year * 12 + self.month - 1
    }

    /// Days since 1 March of year 0. Years counted from March have their leap day at the end.
    fn days(self) -> i64 {
        let (year, month) =
            if self.month > 2 { (self.year, self.month - 3) } else { (self.year - 1, self.month + 9) };
        let before_month = (153 * month + 2) / 5; // months from March: 31 30 31 30 31 twice, then 31 and February
        year * 365 + year.div_euclid(4) - year.div_euclid(100)
            + year.div_euclid(400)
            + before_month
            + self.day.unwrap_or(1)
            - 1
    }

    fn from_days(days: i64) -> Date {
        // A first guess by the mean length of a year is at most one year off.
        let mut year = (days * 400).div_euclid(146_097);
        let start = |year: i64| Date { year, month: 3, day: Some(1) }.days();
        while start(year) > days {
            year -= 1;
        }
        while start(year + 1) <= days {
            year += 1;
        }
        let in_year = days - start(year);
        let month = (5 * in_year + 2) / 153;
        let day = in_year - (153 * month + 2) / 5 + 1;
        let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
        Date { year, month, day: Some(day) }
    }
}

fn number(text: &str, digits: usize) -> Option<i64> {
    (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Labels for the `count` rows after the last one, if the last rows are evenly spaced dates: so many months apart
/// (`1749-01`, or always the same day of the month) or so many days (`2012-01-31`). `None` otherwise.
pub fn labels_after(labels: &[String], count: usize) -> Option<Vec<String>> {
    let recent: Vec<Date> = labels[labels.len().saturating_sub(6)..]
        .iter()
        .map(|label| Date::parse(label))
        .collect::<Option<_>>()?;
    let (last, text) = (*recent.last()?, labels.last()?);
    let date_only = text.len() == if last.day.is_some() { 10 } else { 7 };
    if recent.len() < 3 || !date_only {
        return None;
    }
    let pace = |position: fn(Date) -> i64| {
        let steps: Vec<i64> = recent.windows(2).map(|pair| position(pair[1]) - position(pair[0])).collect();
        (steps[0] > 0 && steps.iter().all(|step| *step == steps[0])).then_some(steps[0])
    };
    let same_day = recent.iter().all(|date| date.day == last.day);
    let separator = text.chars().nth(4)?;
    let label = |date: Date| {
        let mut text = format!("{:04}{separator}{:02}", date.year, date.month);
        if let Some(day) = date.day {
            text += &format!("{separator}{day:02}");
        }
        text
    };
    let after = |k: i64| {
        if let Some(months) = pace(Date::months).filter(|_| same_day) {
            let month = last.months() + k * months;
            let (year, month) = (month.div_euclid(12), month.rem_euclid(12) + 1);
            return Some(Date { year, month, day: last.day.map(|day| day.min(days_in(year, month))) });
        }
        last.day?;
        Some(Date::from_days(last.days() + k * pace(Date::days)?))
    };
    (1..=count as i64).map(|k| after(k).map(label)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(labels: &[&str], count: usize) -> Option<Vec<String>> {
        labels_after(&labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>(), count)
    }

    #[test]
    fn months_days_weeks_and_quarters_continue() {
        assert_eq!(after(&["2009-04", "2009-05", "2009-06"], 2).unwrap(), ["2009-07", "2009-08"]);
        assert_eq!(after(&["1999-10", "1999-11", "1999-12"], 1).unwrap(), ["2000-01"]);
        assert_eq!(after(&["2015-12-29", "2015-12-30", "2015-12-31"], 1).unwrap(), ["2016-01-01"]);
        assert_eq!(after(&["2016-02-14", "2016-02-21", "2016-02-28"], 1).unwrap(), ["2016-03-06"]);
        assert_eq!(
            after(&["2016-02-26", "2016-02-27", "2016-02-28"], 2).unwrap(),
            ["2016-02-29", "2016-03-01"]
        );
        assert_eq!(after(&["2015/07/01", "2015/10/01", "2016/01/01"], 1).unwrap(), ["2016/04/01"]);
    }

    #[test]
    fn uneven_spacing_or_another_format_has_no_next_label() {
        assert_eq!(after(&["2015-12-28", "2015-12-30", "2015-12-31"], 1), None);
        assert_eq!(after(&["31.12.2015", "01.01.2016", "02.01.2016"], 1), None);
        assert_eq!(after(&["2015-12-30T06:00", "2015-12-30T12:00", "2015-12-30T18:00"], 1), None);
        assert_eq!(after(&["2015-12-31"], 1), None);
    }

    #[test]
    fn days_and_dates_convert_both_ways_over_eight_centuries() {
        let first = Date { year: 1899, month: 12, day: Some(31) }.days();
        let mut before = Date::from_days(first);
        for days in first + 1..first + 2 * 146_097 {
            let date = Date::from_days(days);
            assert_eq!(date.days(), days);
            let next_day = date.day == before.day.map(|day| day + 1) && date.month == before.month;
            let next_month = date.day == Some(1) && before.day == Some(days_in(before.year, before.month));
            assert!(next_day || next_month, "{before:?} then {date:?}");
            before = date;
        }
    }
}
