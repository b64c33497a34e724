// linear/columns_f32: one column at a time, for any shape and for b stored across its columns.
alias Column = f32;
const COLUMN_WIDTH: u32 = 1u;

fn activate_column(x: Column) -> Column {
    return activate(ACTIVATION, ALPHA, BETA, x);
}
