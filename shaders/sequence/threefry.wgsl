// sequence/threefry: Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror and Shaw 2011), random words determined by a key and
// a counter.
// Mirror: gatefold-reference, sequence::threefry2x32.
const KEY_PARITY: u32 = 0x1BD11BDAu;

fn threefry_round(x: vec2<u32>, bits: u32) -> vec2<u32> {
    let sum = x.x + x.y;
    return vec2(sum, ((x.y << bits) | (x.y >> (32u - bits))) ^ sum);
}

fn even_rounds(x: vec2<u32>) -> vec2<u32> {
    return threefry_round(threefry_round(threefry_round(threefry_round(x, 13u), 15u), 26u), 6u);
}

fn odd_rounds(x: vec2<u32>) -> vec2<u32> {
    return threefry_round(threefry_round(threefry_round(threefry_round(x, 17u), 29u), 16u), 24u);
}

fn threefry(key: vec2<u32>, counter: vec2<u32>) -> vec2<u32> {
    let parity = KEY_PARITY ^ key.x ^ key.y;
    var x = counter + key;
    x = even_rounds(x) + vec2(key.y, parity + 1u);
    x = odd_rounds(x) + vec2(parity, key.x + 2u);
    x = even_rounds(x) + vec2(key.x, key.y + 3u);
    x = odd_rounds(x) + vec2(key.y, parity + 4u);
    return even_rounds(x) + vec2(parity, key.x + 5u);
}
