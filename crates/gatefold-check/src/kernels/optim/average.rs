use super::{part, runs, table, update_kernel};
use crate::compare::Tolerance;
use crate::data::wide;
use crate::selfcheck::Checks;
use gatefold::hooks::run_kernel;
use gatefold::{Error, Gpu};
use gatefold_reference::optim;
use gatefold_shaders::{KernelId, params};

pub(in crate::kernels) fn average(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for weight in [1.0, 0.3, 1e-4] {
        for (case, mut run) in runs(25).into_iter().filter(|run| !run.trial).enumerate() {
            let before = run.random.values_for(run.len, run.total);
            let (pieces, groups) = run.table(0.0);
            let params =
                params::Average { pieces: pieces.len() as u32, groups_x: groups[0], ..Default::default() };
            let mut hyper = run.hyper(0.0, 0.0);
            hyper.splice(5..6, [weight]);
            let bindings: [&[f32]; 5] = [&hyper, &table(&pieces), &run.status(), &run.values, &before];
            let kernel = update_kernel(KernelId::Average, case, &[]);
            let found = run_kernel(gpu, &kernel, params, &bindings, groups)?;

            let elements = run.offset..run.offset + run.len;
            let (mut want, values): (Vec<f64>, Vec<f64>) =
                (part(&before, elements.clone()), part(&run.values, elements));
            optim::average(&mut want, &values, f64::from(weight));
            checks.case(run.describe(&format!("weight {weight}")));
            run.compare(checks, "average", &found[4], &before, &want);
            checks.tensor(
                "values",
                &[("element", run.total)],
                &found[3],
                &wide(&run.values),
                Tolerance::EXACT,
            );
        }
    }
    Ok(())
}
