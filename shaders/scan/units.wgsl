// scan/units: each unit's own numbers, [UNITS, H]. Joined with a kernel that declares units, and whose
// params have units_at.
const MASKED: bool = false;

fn own_of(params: Params, unit: u32) -> vec4<f32> {
    var own = vec4<f32>();
    if UNITS > 0u {
        own.x = units[params.units_at + unit];
    }
    if UNITS > 1u {
        own.y = units[params.units_at + params.hidden + unit];
        own.z = units[params.units_at + 2u * params.hidden + unit];
    }
    return own;
}
