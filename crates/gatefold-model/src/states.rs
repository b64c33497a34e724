//! States of recurrent layers, all directions of a layer together, and the key of dropout.

use crate::{InitialState, Layer, ModelError, NetworkConfig, Parameters, Recurrent, Role};
use ndarray::{Array2, Array3, ArrayD, ArrayView3, Axis, concatenate, s};

/// The state of one recurrent layer: initial or final values, or a loss's gradients with respect to them.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerState {
    /// `[D k, B, R]`: for each direction, forward first, the last `k` values of h, oldest first, so that the last one is
    /// the h of the last step. `k` is 1, or the reach of a skip connection, or the dilation; `R` is H, or the width of
    /// the projection.
    pub h: Array3<f32>,
    /// `[D d, B, H]`: an LSTM's cell state; with a dilation the last `d` values, oldest first.
    pub c: Option<Array3<f32>>,
    /// `[B, O]`: the readout of a layer with feedback.
    pub y: Option<Array2<f32>>,
}

/// The states of a network's recurrent layers, in the layers' order, an encoder's and its decoder's alike.
///
/// PyTorch has one array for all layers of a module; [`States::stacked`] takes such arrays apart, [`States::h_n`] and
/// [`States::c_n`] put them together:
///
/// ```
/// use gatefold_model::{NetworkConfig, States};
/// use ndarray::Array3;
///
/// let config = NetworkConfig::with_input(3).lstm(5).lstm(5).build()?; // nn.LSTM(3, 5, num_layers=2)
/// let (h_0, c_0) = (Array3::ones((2, 4, 5)), Array3::zeros((2, 4, 5))); // [layers, batch, units]
/// let states = States::stacked(&config, h_0.view(), Some(c_0.view()))?;
/// assert_eq!(states.layers[1].h.dim(), (1, 4, 5));
/// assert_eq!(states.h_n(), Some(h_0));
/// assert_eq!(states.c_n(), Some(c_0));
/// # Ok::<(), gatefold_model::ModelError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct States {
    /// One state per recurrent layer.
    pub layers: Vec<LayerState>,
}

/// The key of dropout's masks. The same seed and batch number give the same masks on every device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropout {
    /// The key of the generator.
    pub seed: u64,
    /// The batch's number, so that each batch gets masks of its own.
    pub batch: u32,
    /// The step of the whole sequence with which the pass begins; 0 unless a sequence goes through the network in
    /// chunks, whose masks are then those of the whole.
    pub first_step: usize,
}

impl LayerState {
    /// Zeros for `batch` rows.
    pub fn zeros(recurrent: &Recurrent, batch: usize) -> Self {
        let scans = recurrent.direction.scans().len();
        LayerState {
            h: Array3::zeros((scans * recurrent.history(), batch, recurrent.recurrent_width())),
            c: recurrent
                .cell
                .has_state()
                .then(|| Array3::zeros((scans * recurrent.dilation, batch, recurrent.hidden))),
            y: recurrent.feedback.map(|feedback| Array2::zeros((batch, feedback.output))),
        }
    }

    /// Puts the elements of a caller's arrays in standard layout.
    pub fn make_standard(&mut self) {
        let LayerState { h, c, y } = self;
        for array in std::iter::once(h).chain(c) {
            if !array.is_standard_layout() {
                *array = array.as_standard_layout().into_owned();
            }
        }
        if let Some(y) = y.as_mut().filter(|y| !y.is_standard_layout()) {
            *y = y.as_standard_layout().into_owned();
        }
    }

    /// The layer's configured initial state.
    fn initial<'a>(
        layer: &Layer,
        recurrent: &Recurrent,
        batch: usize,
        parameter: impl Fn(&str) -> &'a ArrayD<f32>,
    ) -> Self {
        let mut state = LayerState::zeros(recurrent, batch);
        match recurrent.initial {
            InitialState::Zeros => {}
            InitialState::Constant(value) => {
                state.h.fill(value);
                state.c.iter_mut().for_each(|c| c.fill(value));
            }
            InitialState::Learned => {
                let (k, d) = (recurrent.history(), recurrent.dilation);
                for (scan, &reverse) in recurrent.direction.scans().iter().enumerate() {
                    if let Some(h0) = layer.find(Role::InitialH, reverse) {
                        state.h.slice_mut(s![scan * k..(scan + 1) * k, .., ..]).assign(parameter(&h0.name));
                    }
                    if let (Some(c), Some(c0)) = (&mut state.c, layer.find(Role::InitialC, reverse)) {
                        c.slice_mut(s![scan * d..(scan + 1) * d, .., ..]).assign(parameter(&c0.name));
                    }
                }
            }
        }
        state
    }

    fn check(&self, recurrent: &Recurrent, batch: usize) -> Result<(), String> {
        let scans = recurrent.direction.scans().len();
        let expected_h = [scans * recurrent.history(), batch, recurrent.recurrent_width()];
        let expected_c =
            recurrent.cell.has_state().then_some([scans * recurrent.dilation, batch, recurrent.hidden]);
        let expected_y = recurrent.feedback.map(|feedback| [batch, feedback.output]);
        let shape = |shape: Option<&[usize]>| shape.map_or("none".into(), |shape| format!("{shape:?}"));
        let axes = [
            ("h", "[directions x slots, rows, width]", Some(&expected_h[..]), Some(self.h.shape())),
            (
                "c",
                "[directions x slots, rows, units]",
                expected_c.as_ref().map(|c| &c[..]),
                self.c.as_ref().map(|c| c.shape()),
            ),
            ("y", "[rows, outputs]", expected_y.as_ref().map(|y| &y[..]), self.y.as_ref().map(|y| y.shape())),
        ];
        match axes.into_iter().find(|(.., expected, found)| expected != found) {
            None => Ok(()),
            Some((name, _, None, found)) => {
                Err(format!("state {name}: expected none, found {}; leave it out", shape(found)))
            }
            Some((name, axes, expected, found)) => {
                Err(format!("state {name}: expected {axes} {}, found {}", shape(expected), shape(found)))
            }
        }
    }
}

impl States {
    /// Zeros for `batch` rows.
    pub fn zeros(config: &NetworkConfig, batch: usize) -> Self {
        let recurrent = config.recurrent_layers().filter_map(Layer::recurrent);
        States { layers: recurrent.map(|recurrent| LayerState::zeros(recurrent, batch)).collect() }
    }

    /// The configured initial states: zeros, constants or learned ones, as each layer's config says. A decoder's layers,
    /// which start from the encoder's states, get zeros.
    ///
    /// # Panics
    /// If a learned state is missing from the parameters or has another shape; [`Parameters::check`] finds out.
    pub fn initial(config: &NetworkConfig, parameters: &Parameters, batch: usize) -> Self {
        States::initial_of(config, batch, |name| &parameters[name])
    }

    /// [`States::initial`] with parameters looked up by name.
    ///
    /// # Panics
    /// If a learned state has another shape than its parameter.
    pub fn initial_of<'a>(
        config: &NetworkConfig,
        batch: usize,
        parameter: impl Fn(&str) -> &'a ArrayD<f32>,
    ) -> Self {
        let state = |layer: &Layer| {
            let recurrent = layer.recurrent().expect("only those are asked for");
            LayerState::initial(layer, recurrent, batch, &parameter)
        };
        States { layers: config.recurrent_layers().map(state).collect() }
    }

    /// States from PyTorch's arrays: `h_0 [layers D, B, R]`, a layer's directions next to each other, forward first; and
    /// for LSTM layers `c_0 [layers D, B, H]`. A layer with a skip connection takes `k` rows of `h_0` for each direction,
    /// oldest first, and one with a dilation `d` rows of both. The readout of a layer with feedback starts at zero.
    ///
    /// # Errors
    /// [`ModelError::Shape`] for an array of another shape, [`ModelError::Missing`] for LSTM layers without `c_0`,
    /// [`ModelError::Unexpected`] for an array that no layer has a place for, and [`ModelError::Config`] for layers of
    /// different widths.
    pub fn stacked(
        config: &NetworkConfig,
        h_0: ArrayView3<f32>,
        c_0: Option<ArrayView3<f32>>,
    ) -> Result<States, ModelError> {
        let mut states = States::zeros(config, h_0.dim().1);
        unstack("h_0", config, states.layers.iter_mut().map(|state| Some(&mut state.h)), Some(h_0))?;
        unstack("c_0", config, states.layers.iter_mut().map(|state| state.c.as_mut()), c_0)?;
        Ok(states)
    }

    /// The values of h as PyTorch's `h_n`, the inverse of [`States::stacked`]; `None` without a recurrent layer, and
    /// where layers differ in width, which PyTorch has in modules of their own.
    pub fn h_n(&self) -> Option<Array3<f32>> {
        stack(self.layers.iter().map(|state| &state.h))
    }

    /// The values of c as PyTorch's `c_n`, those of the LSTM layers; `None` as for [`States::h_n`].
    pub fn c_n(&self) -> Option<Array3<f32>> {
        stack(self.layers.iter().filter_map(|state| state.c.as_ref()))
    }

    /// Checks that these are states of that network for `batch` rows.
    ///
    /// # Errors
    /// The first mismatch, in one line.
    pub fn check(&self, config: &NetworkConfig, batch: usize) -> Result<(), String> {
        let (expected, found) = (config.recurrent_layers().count(), self.layers.len());
        if expected != found {
            return Err(format!(
                "states: expected one for each of {expected} recurrent layers, found {found}"
            ));
        }
        for (layer, state) in config.recurrent_layers().zip(&self.layers) {
            let recurrent = layer.recurrent().expect("only those are asked for");
            state.check(recurrent, batch).map_err(|problem| format!("{}: {problem}", layer.place()))?;
        }
        Ok(())
    }
}

/// Distributes the rows of a stacked array over the layers that have a place for them.
fn unstack<'a>(
    name: &str,
    config: &NetworkConfig,
    places: impl Iterator<Item = Option<&'a mut Array3<f32>>>,
    stacked: Option<ArrayView3<f32>>,
) -> Result<(), ModelError> {
    let places = config.recurrent_layers().zip(places);
    let places: Vec<_> = places.filter_map(|(layer, place)| Some((layer, place?))).collect();
    let Some((first, shape)) = places.first().map(|(layer, place)| (*layer, place.dim())) else {
        return stacked.map_or(Ok(()), |stacked| {
            Err(ModelError::Unexpected { name: name.into(), found: stacked.shape().into() })
        });
    };
    let (_, batch, width) = shape;
    if let Some((layer, place)) = places.iter().find(|(_, place)| place.dim().2 != width) {
        let problem = format!(
            "its state has {} values and that of {} {width}, so {name} cannot hold both; fill States::zeros instead",
            place.dim().2,
            first.place()
        );
        return Err(ModelError::Config { place: layer.place(), problem });
    }
    let expected = vec![places.iter().map(|(_, place)| place.dim().0).sum(), batch, width];
    let Some(stacked) = stacked else {
        return Err(ModelError::Missing { name: name.into(), expected, found: "h_0 alone".into() });
    };
    if stacked.shape() != expected {
        let name = format!("{name} [layers x directions, batch, width]");
        return Err(ModelError::Shape { name, expected, found: stacked.shape().into() });
    }
    let mut begin = 0;
    for (_, place) in places {
        let end = begin + place.dim().0;
        place.assign(&stacked.slice(s![begin..end, .., ..]));
        begin = end;
    }
    Ok(())
}

/// All arrays, one after another along the first axis; `None` if there are none or they do not fit.
fn stack<'a>(arrays: impl Iterator<Item = &'a Array3<f32>>) -> Option<Array3<f32>> {
    let views: Vec<_> = arrays.map(|array| array.view()).collect();
    concatenate(Axis(0), &views).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GruConfig, LstmConfig};

    fn counted(shape: (usize, usize, usize), from: usize) -> Array3<f32> {
        let len = shape.0 * shape.1 * shape.2;
        Array3::from_shape_vec(shape, (from..from + len).map(|value| value as f32).collect()).unwrap()
    }

    #[test]
    fn directions_of_a_layer_lie_next_to_each_other() {
        let projected = || LstmConfig::new(4).projection(3).bidirectional();
        let config = NetworkConfig::with_input(2).layer(projected()).layer(projected()).build().unwrap();
        let (h_0, c_0) = (counted((4, 5, 3), 0), counted((4, 5, 4), 1000));
        let states = States::stacked(&config, h_0.view(), Some(c_0.view())).unwrap();
        states.check(&config, 5).unwrap();
        // The second layer's reverse scan is the last of PyTorch's rows.
        let last = &states.layers[1];
        assert_eq!(last.h.index_axis(Axis(0), 1), h_0.index_axis(Axis(0), 3));
        assert_eq!(last.c.as_ref().unwrap().index_axis(Axis(0), 0), c_0.index_axis(Axis(0), 2));
        assert_eq!((states.h_n(), states.c_n()), (Some(h_0), Some(c_0)));
    }

    #[test]
    fn cells_without_c_and_slots_of_a_skip_connection() {
        let config =
            NetworkConfig::with_input(2).layer(GruConfig::new(3).skip(3)).lstm(3).dense(1).build().unwrap();
        let (h_0, c_0) = (counted((4, 2, 3), 0), counted((1, 2, 3), 100));
        let states = States::stacked(&config, h_0.view(), Some(c_0.view())).unwrap();
        states.check(&config, 2).unwrap();
        assert_eq!(states.layers[0].h, h_0.slice(s![..3, .., ..]));
        assert_eq!(states.layers[1].c.as_ref(), Some(&c_0));
        assert_eq!((states.h_n(), states.c_n()), (Some(h_0), Some(c_0)));
        let gru = NetworkConfig::with_input(2).gru(3).build().unwrap();
        let states = States::stacked(&gru, Array3::ones((1, 2, 3)).view(), None).unwrap();
        assert_eq!(states.c_n(), None);
    }

    #[test]
    fn a_dilated_layer_has_a_slot_for_each_of_its_steps() {
        let dilated = LstmConfig::new(2).dilation(3).initial_state(InitialState::Learned).bidirectional();
        let config = NetworkConfig::with_input(2).layer(dilated).build().unwrap();
        let (h_0, c_0) = (counted((6, 2, 2), 0), counted((6, 2, 2), 100));
        let states = States::stacked(&config, h_0.view(), Some(c_0.view())).unwrap();
        assert_eq!((states.h_n(), states.c_n()), (Some(h_0), Some(c_0)));
        let row = |name: &str| ArrayD::from_elem(vec![2], if name.contains("reverse") { 2.0 } else { 1.0 });
        let rows: Vec<(String, ArrayD<f32>)> =
            config.parameter_specs().map(|spec| (spec.name.clone(), row(&spec.name))).collect();
        let of = |name: &str| &rows.iter().find(|(found, _)| found == name).unwrap().1;
        let initial = &States::initial_of(&config, 2, of).layers[0];
        for state in [&initial.h, initial.c.as_ref().unwrap()] {
            let slots: Vec<f32> = state.index_axis(Axis(1), 1).column(0).to_vec();
            assert_eq!(slots, [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
        }
    }

    #[test]
    fn arrays_that_do_not_fit_are_named() {
        let lstm = NetworkConfig::with_input(2).lstm(3).lstm(3).build().unwrap();
        let gru = NetworkConfig::with_input(2).gru(3).build().unwrap();
        let dense = NetworkConfig::with_input(2).dense(3).build().unwrap();
        let widths = NetworkConfig::with_input(2).lstm(3).dense(2).gru(4).build().unwrap();
        let of = |config: &NetworkConfig, h: (usize, usize, usize), c: Option<(usize, usize, usize)>| {
            let (h, c) = (Array3::zeros(h), c.map(Array3::<f32>::zeros));
            let refused = States::stacked(config, h.view(), c.as_ref().map(|c| c.view())).unwrap_err();
            refused.to_string()
        };
        let shaped = "[layers x directions, batch, width]: expected shape";
        for (found, expected) in [
            (of(&lstm, (1, 4, 3), None), format!("h_0 {shaped} [2, 4, 3], found [1, 4, 3]")),
            (of(&lstm, (2, 4, 5), None), format!("h_0 {shaped} [2, 4, 3], found [2, 4, 5]")),
            (of(&lstm, (2, 4, 3), Some((2, 5, 3))), format!("c_0 {shaped} [2, 4, 3], found [2, 5, 3]")),
            (
                of(&lstm, (2, 4, 3), None),
                "tensor c_0 with shape [2, 4, 3] is missing; found h_0 alone".into(),
            ),
            (
                of(&gru, (1, 4, 3), Some((1, 4, 3))),
                "tensor c_0 with shape [1, 4, 3] belongs to no layer of this network".into(),
            ),
            (
                of(&dense, (1, 4, 3), None),
                "tensor h_0 with shape [1, 4, 3] belongs to no layer of this network".into(),
            ),
            (
                of(&widths, (2, 4, 3), Some((1, 4, 3))),
                "layer 2 (gru): its state has 4 values and that of layer 0 (lstm) 3, so h_0 cannot hold both; fill \
                 States::zeros instead"
                    .into(),
            ),
        ] {
            assert_eq!(found, expected);
        }
        assert_eq!(States::zeros(&widths, 4).h_n(), None);
        assert_eq!(States::zeros(&dense, 4).h_n(), None);
    }
}
