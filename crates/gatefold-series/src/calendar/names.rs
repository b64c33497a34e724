//! Names of months and days of the week in the languages of common exports.

/// A language's months, in full and shortened; points at the end are not part of a name.
pub(super) struct Months {
    pub(super) full: [&'static str; 12],
    pub(super) short: [&'static str; 12],
}

pub(super) const MONTHS: [Months; 7] = [
    Months {
        full: [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ],
        short: ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
    },
    Months {
        full: [
            "Januar",
            "Februar",
            "März",
            "April",
            "Mai",
            "Juni",
            "Juli",
            "August",
            "September",
            "Oktober",
            "November",
            "Dezember",
        ],
        short: ["Jan", "Feb", "Mär", "Apr", "Mai", "Jun", "Jul", "Aug", "Sep", "Okt", "Nov", "Dez"],
    },
    Months {
        full: [
            "janvier",
            "février",
            "mars",
            "avril",
            "mai",
            "juin",
            "juillet",
            "août",
            "septembre",
            "octobre",
            "novembre",
            "décembre",
        ],
        short: ["janv", "févr", "mars", "avr", "mai", "juin", "juil", "août", "sept", "oct", "nov", "déc"],
    },
    Months {
        full: [
            "enero",
            "febrero",
            "marzo",
            "abril",
            "mayo",
            "junio",
            "julio",
            "agosto",
            "septiembre",
            "octubre",
            "noviembre",
            "diciembre",
        ],
        short: ["ene", "feb", "mar", "abr", "may", "jun", "jul", "ago", "sep", "oct", "nov", "dic"],
    },
    Months {
        full: [
            "gennaio",
            "febbraio",
            "marzo",
            "aprile",
            "maggio",
            "giugno",
            "luglio",
            "agosto",
            "settembre",
            "ottobre",
            "novembre",
            "dicembre",
        ],
        short: ["gen", "feb", "mar", "apr", "mag", "giu", "lug", "ago", "set", "ott", "nov", "dic"],
    },
    Months {
        full: [
            "janeiro",
            "fevereiro",
            "março",
            "abril",
            "maio",
            "junho",
            "julho",
            "agosto",
            "setembro",
            "outubro",
            "novembro",
            "dezembro",
        ],
        short: ["jan", "fev", "mar", "abr", "mai", "jun", "jul", "ago", "set", "out", "nov", "dez"],
    },
    Months {
        full: [
            "januari",
            "februari",
            "maart",
            "april",
            "mei",
            "juni",
            "juli",
            "augustus",
            "september",
            "oktober",
            "november",
            "december",
        ],
        short: ["jan", "feb", "mrt", "apr", "mei", "jun", "jul", "aug", "sep", "okt", "nov", "dec"],
    },
];

pub(super) const WEEKDAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// Names of clocks in winter and in summer, with the hours that the first is ahead of UTC. Names that stand for several
/// clocks, such as CST and BST, are not among them.
pub(super) const ZONES: [(&str, &str, i32); 6] = [
    ("WET", "WEST", 0),
    ("CET", "CEST", 1),
    ("EET", "EEST", 2),
    ("EST", "EDT", -5),
    ("MST", "MDT", -7),
    ("PST", "PDT", -8),
];

/// The place of a clock's name that a text begins with, the hours ahead of UTC, and the rest.
pub(super) fn named_zone(text: &str) -> Option<(usize, i32, &str)> {
    ZONES.iter().enumerate().find_map(|(place, (winter, summer, hours))| {
        let of = |name: &str, hours: i32| Some((place, hours, text.strip_prefix(name)?));
        of(summer, hours + 1).or_else(|| of(winter, *hours))
    })
}
