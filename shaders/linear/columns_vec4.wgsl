// linear/columns_vec4: four neighbouring columns at a time, where their number divides by four and b is stored along them.
alias Column = vec4<f32>;
const COLUMN_WIDTH: u32 = 4u;

fn activate_column(x: Column) -> Column {
    return Column(
        activate(ACTIVATION, x[0]),
        activate(ACTIVATION, x[1]),
        activate(ACTIVATION, x[2]),
        activate(ACTIVATION, x[3]),
    );
}
