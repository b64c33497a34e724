//! Conversion between ONNX's gate orders and this engine's. Each function moves blocks of rows along the first axis;
//! its name gives both orders.
//!
//! | | ONNX | here |
//! |---|---|---|
//! | LSTM | i, o, f, c | i, f, g, o ([`gatefold_model::LstmGate`]; `g` is ONNX's `c`) |
//! | LSTM's peepholes | i, o, f | i, f, o |
//! | GRU | z, r, h | r, z, n ([`gatefold_model::GruGate`]; `n` is ONNX's `h`) |

use gatefold_model::{GruGate, LstmGate};
use ndarray::{Array, ArrayView, Axis, RemoveAxis};

/// Reorders an LSTM's rows from ONNX's order to ours.
pub fn ifgo_from_iofc<D: RemoveAxis>(rows: ArrayView<f32, D>) -> Array<f32, D> {
    moved(rows, LstmGate::ALL.map(place_in_iofc))
}

/// Reorders an LSTM's rows from our order to ONNX's.
pub fn iofc_from_ifgo<D: RemoveAxis>(rows: ArrayView<f32, D>) -> Array<f32, D> {
    moved(rows, inverse(LstmGate::ALL.map(place_in_iofc)))
}

/// Reorders a GRU's rows from ONNX's order to ours.
pub fn rzn_from_zrh<D: RemoveAxis>(rows: ArrayView<f32, D>) -> Array<f32, D> {
    moved(rows, GruGate::ALL.map(place_in_zrh))
}

/// Reorders a GRU's rows from our order to ONNX's.
pub fn zrh_from_rzn<D: RemoveAxis>(rows: ArrayView<f32, D>) -> Array<f32, D> {
    moved(rows, inverse(GruGate::ALL.map(place_in_zrh)))
}

/// Reorders an LSTM's peepholes from ONNX's order to ours.
pub fn ifo_from_iof<D: RemoveAxis>(rows: ArrayView<f32, D>) -> Array<f32, D> {
    moved(rows, PEEPHOLES.map(place_in_iofc))
}

/// Reorders an LSTM's peepholes from our order to ONNX's.
pub fn iof_from_ifo<D: RemoveAxis>(rows: ArrayView<f32, D>) -> Array<f32, D> {
    moved(rows, inverse(PEEPHOLES.map(place_in_iofc)))
}

/// The gates with peepholes, in the order of the parameter `peephole`.
const PEEPHOLES: [LstmGate; 3] = [LstmGate::Input, LstmGate::Forget, LstmGate::Output];

fn place_in_iofc(gate: LstmGate) -> usize {
    match gate {
        LstmGate::Input => 0,
        LstmGate::Output => 1,
        LstmGate::Forget => 2,
        LstmGate::Cell => 3,
    }
}

fn place_in_zrh(gate: GruGate) -> usize {
    match gate {
        GruGate::Update => 0,
        GruGate::Reset => 1,
        GruGate::New => 2,
    }
}

/// The inverse permutation.
fn inverse<const N: usize>(from: [usize; N]) -> [usize; N] {
    let mut to = [0; N];
    for (place, from) in from.into_iter().enumerate() {
        to[from] = place;
    }
    to
}

/// Moves block `places[k]` to block `k`.
fn moved<D: RemoveAxis, const N: usize>(rows: ArrayView<f32, D>, places: [usize; N]) -> Array<f32, D> {
    let block = rows.len_of(Axis(0)) / N;
    let mut result = Array::zeros(rows.raw_dim());
    for (k, place) in places.into_iter().enumerate() {
        let to: ndarray::Slice = (k * block..(k + 1) * block).into();
        result
            .slice_axis_mut(Axis(0), to)
            .assign(&rows.slice_axis(Axis(0), (place * block..(place + 1) * block).into()));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, arr1};

    #[test]
    fn the_orders_are_those_in_the_names() {
        // i = 1, f = 2, g = 3, o = 4; r = 5, z = 6, n = 7; two units each.
        let iofc = arr1(&[1.0, 1.5, 4.0, 4.5, 2.0, 2.5, 3.0, 3.5]);
        let ifgo = arr1(&[1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]);
        assert_eq!(ifgo_from_iofc(iofc.view()), ifgo);
        assert_eq!(iofc_from_ifgo(ifgo.view()), iofc);
        let (zrh, rzn) = (arr1(&[6.0, 5.0, 7.0]), arr1(&[5.0, 6.0, 7.0]));
        assert_eq!(rzn_from_zrh(zrh.view()), rzn);
        assert_eq!(zrh_from_rzn(rzn.view()), zrh);
        let (iof, ifo) = (arr1(&[1.0, 4.0, 2.0]), arr1(&[1.0, 2.0, 4.0]));
        assert_eq!(ifo_from_iof(iof.view()), ifo);
        assert_eq!(iof_from_ifo(ifo.view()), iof);
    }

    #[test]
    fn there_and_back_changes_nothing() {
        let rows = Array1::from_iter((0..24).map(|k| k as f32));
        assert_eq!(iofc_from_ifgo(ifgo_from_iofc(rows.view()).view()), rows);
        assert_eq!(zrh_from_rzn(rzn_from_zrh(rows.view()).view()), rows);
        assert_eq!(iof_from_ifo(ifo_from_iof(rows.view()).view()), rows);
    }
}
