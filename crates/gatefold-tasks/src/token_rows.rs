use crate::TaskError;
use gatefold::Sequences;
use ndarray::Array2;

/// Token sequences side by side, `[T, B]`, padded with zeros.
pub(crate) fn padded(rows: &[&[u32]]) -> Array2<u32> {
    let steps = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    Array2::from_shape_fn((steps, rows.len()), |(t, row)| rows[row].get(t).copied().unwrap_or(0))
}

/// Token sequences as a network reads them; each has at least one token.
pub(crate) fn sequences(rows: &[&[u32]]) -> Result<Sequences<'static>, TaskError> {
    let lengths: Vec<usize> = rows.iter().map(|row| row.len()).collect();
    Ok(Sequences::tokens(padded(rows).view()).with_lengths(lengths)?)
}
