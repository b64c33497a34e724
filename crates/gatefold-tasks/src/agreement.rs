use serde::{Deserialize, Serialize};

/// How well numbers agree with the true ones.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Mean absolute error.
    pub mae: f64,
    /// Pearson's correlation; `None` if one side is constant.
    pub pearson: Option<f64>,
    /// Spearman's correlation, that of the ranks, where equal numbers share their mean rank; `None` if one side is
    /// constant.
    pub spearman: Option<f64>,
}

impl Agreement {
    /// Compares numbers with as many true ones.
    ///
    /// # Panics
    /// If there are not as many of both, or none.
    pub fn new(truth: &[f64], found: &[f64]) -> Agreement {
        assert!(truth.len() == found.len() && !truth.is_empty(), "one number for each true one");
        let errors: f64 = truth.iter().zip(found).map(|(y, f)| (y - f).abs()).sum();
        Agreement {
            mae: errors / truth.len() as f64,
            pearson: correlation(truth, found),
            spearman: correlation(&ranks(truth), &ranks(found)),
        }
    }
}

fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    // A mean of equal numbers may differ from them by a rounding, and so would their variance from zero.
    if [a, b].iter().any(|values| values.iter().all(|value| *value == values[0])) {
        return None;
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let sum = |term: &dyn Fn(f64, f64) -> f64| {
        a.iter().zip(b).map(|(x, y)| term(x - mean_a, y - mean_b)).sum::<f64>()
    };
    Some(sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt())
}

/// The rank of each number, from 1; equal ones share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for equal in order.chunk_by(|a, b| values[*a] == values[*b]) {
        equal.iter().for_each(|at| ranks[*at] = before as f64 + (equal.len() + 1) as f64 / 2.0);
        before += equal.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn correlations_are_those_of_scipy() {
        // scipy.stats.pearsonr and spearmanr, scipy 1.17.1
        let truth = [0.3, -0.2, 0.9, 0.3, -1.0, 0.55, 0.0];
        let found = [0.1, -0.4, 0.8, 0.2, -0.3, 0.2, 0.2];
        let agreement = Agreement::new(&truth, &found);
        assert_relative_eq!(agreement.mae, 1.85 / 7.0, max_relative = 1e-12);
        assert_relative_eq!(agreement.pearson.unwrap(), 0.8360332047732315, max_relative = 1e-12);
        assert_relative_eq!(agreement.spearman.unwrap(), 0.8227533512074424, max_relative = 1e-12);
    }

    #[test]
    fn a_constant_correlates_with_nothing() {
        let agreement = Agreement::new(&[1.0, 0.0, 0.5], &[0.1; 3]);
        assert_eq!((agreement.pearson, agreement.spearman), (None, None));
        assert_relative_eq!(agreement.mae, 1.4 / 3.0, max_relative = 1e-12);
    }
}
