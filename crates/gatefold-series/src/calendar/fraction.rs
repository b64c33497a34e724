//! Months and quarters as years with a fraction, such as 2010.25 or 2010.0417.

/// Years with a fraction: each the beginning of a month, or its middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct YearFraction {
    pub(crate) middle: bool,
    pub(crate) decimals: usize,
}

impl YearFraction {
    /// How the cells of a column, month after month or quarter after quarter, are years with a fraction, if they are.
    pub(crate) fn of_cells<'a>(cells: impl Iterator<Item = &'a str> + Clone) -> Option<YearFraction> {
        let decimals =
            cells.clone().map(|cell| cell.split_once('.').map_or(0, |(_, rest)| rest.len())).max()?;
        if !(2..=6).contains(&decimals) {
            return None;
        }
        let reads = |middle: bool| {
            let fraction = YearFraction { middle, decimals };
            let months = cells.clone().map(|cell| fraction.month(cell)).collect::<Option<Vec<i64>>>()?;
            let by = |step: i64| months.windows(2).all(|pair| pair[1] - pair[0] == step);
            let even = [1, -1, 3, -3].into_iter().any(by);
            // Within one year and with few rows, tenths and hundredths are no months yet.
            (months.len() >= 4 && even).then_some(fraction)
        };
        reads(false).or_else(|| reads(true))
    }

    /// The months since the year 0.
    fn month(self, cell: &str) -> Option<i64> {
        let value: f64 = cell.parse().ok().filter(|value| (1000.0..3000.0).contains(value))?;
        let months = value * 12.0 - if self.middle { 0.5 } else { 0.0 };
        // Half a unit in the last place, or three days where the lengths of months and years were counted.
        let near = (months - months.round()).abs() <= (12.0 / 10f64.powi(self.decimals as i32)).max(0.1);
        near.then(|| months.round() as i64)
    }

    /// The year and the month that a cell says.
    pub(super) fn read(self, cell: &str) -> Option<(i16, i8)> {
        let month = self.month(cell)?;
        Some((i16::try_from(month.div_euclid(12)).ok()?, month.rem_euclid(12) as i8 + 1))
    }

    /// A month as the column writes it.
    pub(super) fn text(self, year: i16, month: i8) -> String {
        let past = f64::from(month - 1) + if self.middle { 0.5 } else { 0.0 };
        format!("{:.*}", self.decimals, f64::from(year) + past / 12.0)
    }
}
