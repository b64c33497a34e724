//! The weights of a scan in the order in which the kernels read them.

use super::Form;
use crate::layer::{Lowering, Purpose, dropout};
use crate::plan::{ALIGNMENT, most_elements, whole_len};
use crate::product::{self, Order};
use crate::{Given, PackedPart, Span};
use gatefold_model::{Layer, NoiseKind, Role};

/// Packed weights; they live outside the plan, named after the layer that owns them.
#[derive(Clone, Copy, Debug)]
pub struct Packed {
    /// `[I, H]` of lanes.
    pub w: Span,
    /// `[recurrent columns + skipped columns, H]` of lanes, from what is read to the unit that receives.
    pub u: Span,
    /// `[H, H]`: those of the second stage, from the reset h to the candidate.
    pub u_reset: Option<Span>,
    /// `[H]` of lanes, both biases together.
    pub bias: Option<Span>,
    /// `[H, R]`
    pub readout: Option<Span>,
    /// The same for the way back, for training.
    pub transposed: Option<Transposed>,
}

/// Packed weights for the way back.
#[derive(Clone, Copy, Debug)]
pub struct Transposed {
    /// `[H, lanes, I]`
    pub w: Span,
    /// `[H, recurrent columns]` of lanes, then `[H, skipped columns]`: from the unit whose gradient it is to what it read.
    /// With layer normalisation or noise in the steps, `[H, lanes, R]`.
    pub u: Span,
    /// `[H, H]`: from the unit whose candidate it is to the unit that was reset.
    pub u_reset: Option<Span>,
}

impl Packed {
    /// Declares them. The recurrent weights of scans that run side by side lie in one buffer where a binding may be so large,
    /// for dispatches that run all of them.
    pub(crate) fn declare(low: &mut Lowering<'_>, owner: usize, form: &Form) -> Packed {
        let (input, hidden, lanes) = (form.input, form.hidden(), form.lanes());
        let read = form.recurs().len + form.recurrent.skip.map_or(0, |_| form.own().len);
        let (reverse, purpose) = (form.reverse, low.purpose);
        let (beside, most) = (low.parameters.beside(owner, reverse), most_elements(low.target));
        let plan = &mut *low.plan;
        let mut given = |part: PackedPart, len: usize| {
            let whole = whole_len(beside.members, len).filter(|&whole| part.is_of_steps() && whole <= most);
            let Some(whole) = whole else {
                return plan.given(Given::Packed { layer: owner, reverse, part }, len);
            };
            let all = plan.given(Given::Packed { layer: beside.first, reverse: false, part }, whole);
            all.part(beside.member * len.next_multiple_of(ALIGNMENT), len)
        };
        let has_bias = form.recurrent.biases != gatefold_model::Biases::None;
        Packed {
            w: given(PackedPart::W, input * hidden * lanes),
            u: given(PackedPart::U, read * hidden * lanes),
            u_reset: form.resets_before().then(|| given(PackedPart::UReset, hidden * hidden)),
            bias: has_bias.then(|| given(PackedPart::Bias, hidden * lanes)),
            readout: form.readout().map(|readout| given(PackedPart::Readout, hidden * readout.width)),
            transposed: (purpose == Purpose::Training).then(|| Transposed {
                w: given(PackedPart::WTransposed, input * hidden * lanes),
                u: given(PackedPart::UTransposed, read * hidden * lanes),
                u_reset: form.resets_before().then(|| given(PackedPart::UResetTransposed, hidden * hidden)),
            }),
        }
    }
}

/// Fills [`Packed`] from the parameters.
pub fn pack(low: &mut Lowering<'_>, layer: &Layer, form: &Form) {
    let packed = Packed::declare(low, layer.owner, form);
    pack_into(low, layer, form, &packed);
}

/// Packs the tangents of a scan's weights, in the places of the parameters, for the way forward; in buffers of the plan's
/// own.
pub(super) fn pack_tangents(
    low: &mut Lowering<'_>,
    layer: &Layer,
    form: &Form,
    label: &str,
    packed: &Packed,
) -> Packed {
    let mut own = |part: &str, like: Span| low.plan.scratch(format!("{label}.dot.{part}"), like.len);
    let own = Packed {
        w: own("w", packed.w),
        u: own("u", packed.u),
        u_reset: packed.u_reset.map(|like| own("u_reset", like)),
        bias: packed.bias.map(|like| own("bias", like)),
        readout: packed.readout.map(|like| own("readout", like)),
        transposed: None,
    };
    pack_into(low, layer, form, &own);
    own
}

fn pack_into(low: &mut Lowering<'_>, layer: &Layer, form: &Form, packed: &Packed) {
    let (input, hidden) = (form.input, form.hidden());
    let from_input = form.input_map();
    let find = |low: &mut Lowering<'_>, role| low.parameters.find(low.plan, layer, role, form.reverse);
    let must =
        |low: &mut Lowering<'_>, role| find(low, role).expect("the layer has the parameters of its kind");

    let w = must(low, Role::InputWeight);
    product::pack(low.plan, w, None, Order::columns_units_lanes(from_input, hidden, input), packed.w);
    if let Some(transposed) = packed.transposed {
        product::pack(low.plan, w, None, Order::units_lanes_columns(from_input, hidden, input), transposed.w);
    }
    if let Some(bias) = packed.bias {
        let b_ih = must(low, Role::InputBias);
        let b_hh = find(low, Role::RecurrentBias).map(|span| (span, form.recurrent_bias_map()));
        product::pack(low.plan, b_ih, b_hh, Order::columns_units_lanes(from_input, hidden, 1), bias);
    }

    let weight = must(low, Role::RecurrentWeight);
    pack_recurrent(low, layer, form, packed, weight);
    if let (Some(readout), Some(to)) = (form.readout(), packed.readout) {
        let weight = must(low, readout.weight);
        product::pack(low.plan, weight, None, Order::transposed(readout.width, hidden), to);
    }
}

/// Weights of a scan whose recurrent ones went through DropConnect, in buffers of the plan's own: they belong to a batch.
pub(super) fn drop_weights(low: &mut Lowering<'_>, layer: &Layer, form: &Form, packed: Packed) -> Packed {
    let find = low.parameters.find(low.plan, layer, Role::RecurrentWeight, form.reverse);
    let weight = find.expect("every recurrent layer has recurrent weights");
    let label = if form.reverse { format!("{}.reverse", layer.label()) } else { layer.label() };
    let mut own = |part: &str, like: Span| low.plan.scratch(format!("{label}.{part}"), like.len);
    let own = Packed {
        u: own("dropped.u", packed.u),
        u_reset: packed.u_reset.map(|like| own("dropped.u_reset", like)),
        transposed: packed.transposed.map(|transposed| Transposed {
            u: own("dropped.ut", transposed.u),
            u_reset: transposed.u_reset.map(|like| own("dropped.u_reset_t", like)),
            ..transposed
        }),
        ..packed
    };
    let masked = low.plan.scratch(format!("{label}.dropped"), weight.len);
    let stream = NoiseKind::Weights.stream(layer.owner, form.reverse);
    dropout::mask(low, stream, form.recurrent.noise.weights, weight, masked, 0);
    pack_recurrent(low, layer, form, &own, masked);
    own
}

/// Packs all weights of what recurs, with these recurrent weights `[G H, R]`.
fn pack_recurrent(low: &mut Lowering<'_>, layer: &Layer, form: &Form, packed: &Packed, recurrent: Span) {
    let (hidden, lanes, from_input) = (form.hidden(), form.lanes(), form.input_map());
    let must = |low: &mut Lowering<'_>, role| {
        let found = low.parameters.find(low.plan, layer, role, form.reverse);
        found.expect("the layer has the parameters of its kind")
    };
    // The parts of what recurs: their parameter, width and lanes.
    let own = form.own().len;
    let feedback = form.readout().filter(|readout| !readout.replaces_h);
    let mut parts = vec![(Role::RecurrentWeight, own, form.recurrent_map())];
    parts.extend(feedback.map(|readout| (Role::FeedbackWeight, readout.width, from_input)));
    let recurs = form.recurs().len;
    let mut begin = 0;
    for (role, columns, map) in parts {
        let weight = if role == Role::RecurrentWeight { recurrent } else { must(low, role) };
        let order = Order::columns_units_lanes(map, hidden, columns);
        let place = (begin * hidden * lanes, hidden * lanes);
        product::pack_part(low.plan, weight, None, order, packed.u, place);
        if let Some(transposed) = packed.transposed.filter(|_| form.recurrent.is_dressed()) {
            // A product of its own reads it.
            let order = Order::units_lanes_columns(map, hidden, columns);
            product::pack(low.plan, weight, None, order, transposed.u);
        } else if let Some(transposed) = packed.transposed {
            let order = Order::units_columns_lanes(map, hidden, columns);
            product::pack_part(low.plan, weight, None, order, transposed.u, (begin * lanes, recurs * lanes));
        }
        begin += columns;
    }
    if form.recurrent.skip.is_some() {
        let weight = must(low, Role::SkipWeight);
        let at = recurs * hidden * lanes;
        let order = Order::columns_units_lanes(form.recurrent_map(), hidden, own);
        product::pack_part(low.plan, weight, None, order, packed.u, (at, hidden * lanes));
        if let Some(transposed) = packed.transposed {
            let order = Order::units_columns_lanes(form.recurrent_map(), hidden, own);
            product::pack_part(low.plan, weight, None, order, transposed.u, (at, own * lanes));
        }
    }
    if let Some(u_reset) = packed.u_reset {
        let weight = recurrent;
        let order = Order::columns_units_lanes(form.reset_map(), hidden, hidden);
        product::pack(low.plan, weight, None, order, u_reset);
        if let Some(to) = packed.transposed.and_then(|transposed| transposed.u_reset) {
            let candidate = gatefold_model::GruGate::New as usize;
            low.plan.copy(weight.part(candidate * hidden * hidden, hidden * hidden), to);
        }
    }
}
