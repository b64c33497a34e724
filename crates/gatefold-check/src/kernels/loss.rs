//! The loss, its gradient, and the list that it goes to.

use super::{element_groups, element_kernel};
use crate::Random;
use crate::compare::Tolerance;
use crate::data::wide;
use crate::selfcheck::Checks;
use gatefold::{Error, Gpu, run_kernel};
use gatefold_reference::loss;
use gatefold_shaders::{KernelId, params};
use ndarray::Array3;

pub(super) fn squared_error(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    let cases = [(1, 1), (63, 63), (64, 64), (1000, 65), (4099, 1024), (131, 2)];
    for (stream, (len, parts)) in cases.into_iter().enumerate() {
        let mut random = Random::new(18, stream as u64);
        let (y, wanted) = (random.values(len), random.values(len));
        let params = params::SquaredError { len: len as u32, parts: parts as u32, ..Default::default() };
        let bindings: [&[f32]; 4] = [&y, &wanted, &vec![7.0; len], &vec![7.0; parts]];
        let kernel = element_kernel(KernelId::SquaredError, &[]);
        let found = run_kernel(gpu, &kernel, params, &bindings, element_groups(parts, u32::MAX))?;

        let (y, wanted) = (wide(&y), wide(&wanted));
        checks.case(format!("{len} in {parts} parts"));
        let want = loss::squared_error_parts(&y, &wanted, parts);
        let tolerance = Tolerance::product(len.div_ceil(parts));
        checks.tensor("parts", &[("part", parts)], &found[3], &want, tolerance);
        let cube =
            |values: Vec<f64>| Array3::from_shape_vec((1, 1, len), values).expect("as many as the shape has");
        let want = loss::squared_error_gradient(cube(y).view(), cube(wanted).view());
        let want: Vec<f64> = want.into_iter().collect();
        checks.tensor("d_y", &[("element", len)], &found[2], &want, Tolerance::product(1));
    }
    Ok(())
}

pub(super) fn mean_loss(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    const CAPACITY: usize = 5;
    // A list that is full already stays as it is.
    for (stream, (parts, count)) in
        [(1, 0), (63, 1), (64, 2), (65, 3), (1024, 4), (7, 5)].into_iter().enumerate()
    {
        let mut random = Random::new(19, stream as u64);
        let values = random.within(0.0..3.0, parts);
        let divisor = 3 * parts as u32;
        let listed = random.values(CAPACITY);
        let list = [vec![f32::from_bits(count)], listed.clone()].concat();
        let capacity = CAPACITY as u32;
        let params = params::MeanLoss { parts: parts as u32, divisor, capacity, ..Default::default() };
        let kernel = element_kernel(KernelId::MeanLoss, &[]);
        let found = run_kernel(gpu, &kernel, params, &[&values, &list], [1, 1, 1])?;

        let mut want = wide(&listed);
        let at = count as usize;
        if at < CAPACITY {
            want[at] = loss::mean_loss(&wide(&values), divisor as usize);
        }
        checks.case(format!("{parts} parts at {count}"));
        let tolerance = Tolerance::product(parts);
        checks.tensor("losses", &[("place", CAPACITY)], &found[1][1..], &want, tolerance);
        let counted = (found[1][0].to_bits()) as f32;
        let next = (count + 1).min(capacity);
        checks.tensor("count", &[("word", 1)], &[counted], &[f64::from(next)], Tolerance::EXACT);
    }
    Ok(())
}
