// scan/units: each unit's own numbers, [UNITS, H]. Joined with a kernel that declares units.
const MASKED: bool = false;

fn own_of(unit: u32) -> vec4<f32> {
    var own = vec4<f32>();
    if UNITS > 0u {
        own.x = units[unit];
    }
    if UNITS > 1u {
        own.y = units[params.hidden + unit];
        own.z = units[2u * params.hidden + unit];
    }
    return own;
}
