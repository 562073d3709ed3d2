//! Check digits: Luhn, IBAN (ISO 7064 mod 97-10), the German tax id (ISO 7064 mod 11,10).

/// Lengths of IBANs by country (ISO 13616 registry).
const IBAN_LENGTHS: &[(&str, usize)] = &[
    ("AD", 24),
    ("AE", 23),
    ("AL", 28),
    ("AT", 20),
    ("AZ", 28),
    ("BA", 20),
    ("BE", 16),
    ("BG", 22),
    ("BH", 22),
    ("BR", 29),
    ("BY", 28),
    ("CH", 21),
    ("CR", 22),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DK", 18),
    ("DO", 28),
    ("EE", 20),
    ("EG", 29),
    ("ES", 24),
    ("FI", 18),
    ("FO", 18),
    ("FR", 27),
    ("GB", 22),
    ("GE", 22),
    ("GI", 23),
    ("GL", 18),
    ("GR", 27),
    ("GT", 28),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IL", 23),
    ("IQ", 23),
    ("IS", 26),
    ("IT", 27),
    ("JO", 30),
    ("KW", 30),
    ("KZ", 20),
    ("LB", 28),
    ("LC", 32),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("LY", 25),
    ("MC", 27),
    ("MD", 24),
    ("ME", 22),
    ("MK", 19),
    ("MR", 27),
    ("MT", 31),
    ("MU", 30),
    ("NL", 18),
    ("NO", 15),
    ("PK", 24),
    ("PL", 28),
    ("PS", 29),
    ("PT", 25),
    ("QA", 29),
    ("RO", 24),
    ("RS", 22),
    ("SA", 24),
    ("SC", 31),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("SM", 27),
    ("ST", 25),
    ("SV", 28),
    ("TL", 23),
    ("TN", 24),
    ("TR", 26),
    ("UA", 29),
    ("VA", 22),
    ("VG", 24),
    ("XK", 20),
];

/// The length of a country's IBANs.
pub fn iban_length(country: &str) -> Option<usize> {
    IBAN_LENGTHS.iter().find(|(c, _)| *c == country).map(|(_, n)| *n)
}

/// Whether the check digits of an IBAN without blanks, in upper case, are right.
pub fn iban(compact: &str) -> bool {
    let (Some(head), Some(tail)) = (compact.get(..4), compact.get(4..)) else { return false };
    let mut rest = 0u32;
    for c in tail.chars().chain(head.chars()) {
        let Some(value) = c.to_digit(36) else { return false };
        rest = (rest * if value > 9 { 100 } else { 10 } + value) % 97;
    }
    rest == 1
}

/// Luhn's sum over digits (ISO/IEC 7812-1).
pub fn luhn(digits: &[u8]) -> bool {
    let doubled = |d: u8| if d > 4 { 2 * d - 9 } else { 2 * d };
    let all = digits.iter().rev().enumerate();
    let sum: u32 = all.map(|(i, d)| u32::from(if i % 2 == 1 { doubled(*d) } else { *d })).sum();
    !digits.is_empty() && sum.is_multiple_of(10)
}

/// Whether eleven digits are a German tax id: of the first ten exactly one digit comes twice or three times, the last
/// is the check digit.
pub fn tax_id(digits: &[u8]) -> bool {
    let Some((check, first)) = digits.split_last().filter(|(_, first)| first.len() == 10) else { return false };
    let mut counts = [0u8; 10];
    for d in first {
        if let Some(n) = counts.get_mut(usize::from(*d)) {
            *n += 1;
        }
    }
    let repeated: Vec<u8> = counts.into_iter().filter(|n| *n > 1).collect();
    if first.first() == Some(&0) || !matches!(repeated.as_slice(), [2 | 3]) {
        return false;
    }
    let product = first.iter().fold(10u32, |product, d| {
        let sum = (u32::from(*d) + product) % 10;
        (2 * if sum == 0 { 10 } else { sum }) % 11
    });
    (11 - product) % 10 == u32::from(*check)
}
