// scan/outside: the part of dh(t) that comes from outside the recurrence: from the layer's output, and with FINALS from the
// final h. Joined with slots, and with a kernel that declares d_out and carry.
fn from_outside(params: Params, t: u32, row: u32, unit: u32) -> f32 {
    var d = d_out[params.d_out_at + (t * params.batch + row) * params.d_stride + params.d_begin + unit];
    if FINALS {
        let slot = final_slot(params, t, row);
        if slot < params.history {
            d += carry[params.carry_at + ((1u + slot) * params.batch + row) * params.hidden + unit];
        }
    }
    return d;
}
