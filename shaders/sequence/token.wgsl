// sequence/token: the token that a number stands for. The host refuses numbers that stand for none; clamping keeps every
// index inside the table whatever a padded step holds.
fn token_of(number: f32, tokens: u32) -> u32 {
    return min(u32(clamp(number, 0.0, f32(tokens - 1u))), tokens - 1u);
}
