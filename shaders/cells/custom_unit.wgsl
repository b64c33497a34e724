// cells/custom_unit: the results of a custom cell's functions.
struct CustomStep { saved: vec4<f32>, h: f32, state: f32 }
struct CustomGradient { pre: vec4<f32>, prev: f32 }
