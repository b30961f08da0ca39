//! The User Operator.

mod acls;
mod operator;
mod secret;

pub(super) use acls::fence;
pub(super) use operator::UserOperator;
