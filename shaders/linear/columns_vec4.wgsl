// linear/columns_vec4: four neighbouring columns at a time, where their number is a multiple of four and b is stored along
// its columns.
alias Column = vec4<f32>;
const COLUMN_WIDTH: u32 = 4u;

fn activate_column(x: Column) -> Column {
    return Column(
        activate(ACTIVATION, ALPHA, BETA, x[0]),
        activate(ACTIVATION, ALPHA, BETA, x[1]),
        activate(ACTIVATION, ALPHA, BETA, x[2]),
        activate(ACTIVATION, ALPHA, BETA, x[3]),
    );
}
