//! The Topic Operator.

mod decision;
mod operator;

pub(super) use operator::TopicOperator;
