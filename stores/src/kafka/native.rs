//! What librdkafka can and the rdkafka crate does not show: a topic's id and layout, changing single settings of a topic, and
//! headers whatever their names. The only unsafe code of the project.
#![allow(unsafe_code)]

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, c_char},
    ptr::{self, NonNull},
    slice,
    time::Duration,
};

use rdkafka::{
    bindings::{
        self as sys, rd_kafka_AlterConfigOpType_t, rd_kafka_ResourceType_t, rd_kafka_admin_op_t, rd_kafka_consumer_group_state_t,
        rd_kafka_resp_err_t as Code,
    },
    client::{Client, ClientContext},
    message::BorrowedHeaders,
};

use super::errors::explain_code;
use crate::{StoreError, error::KAFKA_FAILED};

/// The broker is given up this long after its own time-out.
const MARGIN: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicState {
    /// A topic that was deleted and re-created under the same name has another one.
    pub id: String,
    pub partitions: i32,
    /// The replicas of a partition; the minimum, where partitions differ.
    pub replicas: i32,
    /// Whether each partition has a leader.
    pub led: bool,
}

/// A message's headers, in order. The rdkafka crate's own reading panics at a name that is not UTF-8; here such a name is
/// read as far as it goes.
pub fn headers(headers: &BorrowedHeaders) -> Vec<(String, Option<Vec<u8>>)> {
    let native = ptr::from_ref(headers).cast::<sys::rd_kafka_headers_t>();
    let mut all = Vec::new();
    // SAFETY: `BorrowedHeaders` is the native object seen through a reference. It is only read, names and values live as
    // long as it does, and both are copied.
    unsafe {
        for index in 0..sys::rd_kafka_header_cnt(native) {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            if sys::rd_kafka_header_get_all(native, index, &raw mut name, &raw mut value, &raw mut size) != Code::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                break;
            }
            let bytes = (!value.is_null()).then(|| {
                if size == 0 {
                    Vec::new()
                } else {
                    slice::from_raw_parts(value.cast::<u8>(), size).to_vec()
                }
            });
            all.push((CStr::from_ptr(name).to_string_lossy().into_owned(), bytes));
        }
    }
    all
}

/// A librdkafka object that is destroyed with this guard.
struct Owned<T> {
    object: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    fn new(object: *mut T, destroy: unsafe extern "C" fn(*mut T), what: &str) -> Result<Self, StoreError> {
        NonNull::new(object)
            .map(|object| Self { object, destroy })
            .ok_or_else(|| StoreError::configuration(KAFKA_FAILED, format!("librdkafka made no {what}")))
    }

    const fn ptr(&self) -> *mut T {
        self.object.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `object` came from the constructor that belongs to `destroy`, is not null, and is destroyed only here.
        unsafe { (self.destroy)(self.object.as_ptr()) }
    }
}

/// Describes a topic; none where it does not exist. Blocks up to `timeout`.
pub fn describe_topic<C: ClientContext>(client: &Client<C>, topic: &str, timeout: Duration) -> Result<Option<TopicState>, StoreError> {
    let what = format!("describing topic `{topic}`");
    let name = c_string(topic)?;
    let mut names: [*const c_char; 1] = [name.as_ptr()];
    // SAFETY: `names` holds one pointer to a C string that outlives the call, which copies it.
    let collection = unsafe { sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()) };
    let collection = Owned::new(collection, sys::rd_kafka_TopicCollection_destroy, "collection of topics")?;
    let event = request(
        client,
        rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        timeout,
        &what,
        |options, queue| {
            // SAFETY: all four objects are alive, and the call copies what it keeps.
            unsafe { sys::rd_kafka_DescribeTopics(client.native_ptr(), collection.ptr(), options, queue) }
        },
    )?;
    // SAFETY: the event is alive until the end of this function; everything below points into it and is only read. Null
    // pointers are checked before they are followed, and lists are read up to the length that came with them.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event.ptr());
        let described = if result.is_null() {
            &[]
        } else {
            list(|count| sys::rd_kafka_DescribeTopics_result_topics(result, count))
        };
        let Some(&described) = described.first() else {
            return Err(StoreError::transient(KAFKA_FAILED, format!("{what}: the answer is empty")));
        };
        let error = sys::rd_kafka_TopicDescription_error(described);
        match sys::rd_kafka_error_code(error) {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => {}
            Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART | Code::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC => return Ok(None),
            code => return Err(explain_code(&what, code.into(), &text(sys::rd_kafka_error_string(error)))),
        }
        let id = text(sys::rd_kafka_Uuid_base64str(sys::rd_kafka_TopicDescription_topic_id(described)));
        let partitions = list(|count| sys::rd_kafka_TopicDescription_partitions(described, count));
        let replicas = |&partition: &*const sys::rd_kafka_TopicPartitionInfo_t| {
            let mut count = 0;
            sys::rd_kafka_TopicPartitionInfo_replicas(partition, &raw mut count);
            i32::try_from(count).unwrap_or(i32::MAX)
        };
        Ok(Some(TopicState {
            id,
            partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
            replicas: partitions.iter().map(replicas).min().unwrap_or(0),
            led: partitions.iter().all(|&p| !sys::rd_kafka_TopicPartitionInfo_leader(p).is_null()),
        }))
    }
}

/// Whether a consumer group exists, as its coordinator says. Other kinds of groups, which share their names, do not count. Blocks up to
/// `timeout`.
pub fn consumer_group_exists<C: ClientContext>(client: &Client<C>, group: &str, timeout: Duration) -> Result<bool, StoreError> {
    let what = format!("describing consumer group `{group}`");
    let name = c_string(group)?;
    let mut names: [*const c_char; 1] = [name.as_ptr()];
    let event = request(
        client,
        rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS,
        timeout,
        &what,
        |options, queue| {
            // SAFETY: all objects are alive, and the call copies what it keeps.
            unsafe { sys::rd_kafka_DescribeConsumerGroups(client.native_ptr(), names.as_mut_ptr(), names.len(), options, queue) }
        },
    )?;
    // SAFETY: as in `describe_topic`.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event.ptr());
        let described = if result.is_null() {
            &[]
        } else {
            list(|count| sys::rd_kafka_DescribeConsumerGroups_result_groups(result, count))
        };
        let Some(&described) = described.first() else {
            return Err(StoreError::transient(KAFKA_FAILED, format!("{what}: the answer is empty")));
        };
        let error = sys::rd_kafka_ConsumerGroupDescription_error(described);
        match sys::rd_kafka_error_code(error) {
            // Brokers describe a group that does not exist as dead, and newer ones with an error.
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(sys::rd_kafka_ConsumerGroupDescription_state(described)
                != rd_kafka_consumer_group_state_t::RD_KAFKA_CONSUMER_GROUP_STATE_DEAD),
            Code::RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND => Ok(false),
            code => Err(explain_code(&what, code.into(), &text(sys::rd_kafka_error_string(error)))),
        }
    }
}

/// Changes settings of a topic and leaves all others alone (the older `AlterConfigs`, which rdkafka offers, resets them).
/// Blocks up to `timeout`.
pub fn alter_topic_config<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    config: &BTreeMap<String, String>,
    timeout: Duration,
) -> Result<(), StoreError> {
    let what = format!("changing the settings of topic `{topic}`");
    let resource = settings(topic, config, &what)?;
    let mut resources = [resource.ptr()];
    let event = request(
        client,
        rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS,
        timeout,
        &what,
        |options, queue| {
            // SAFETY: all objects are alive, and the call copies what it keeps.
            unsafe { sys::rd_kafka_IncrementalAlterConfigs(client.native_ptr(), resources.as_mut_ptr(), resources.len(), options, queue) }
        },
    )?;
    // SAFETY: as in `describe_topic`.
    unsafe {
        let result = sys::rd_kafka_event_IncrementalAlterConfigs_result(event.ptr());
        let altered = if result.is_null() {
            &[]
        } else {
            list(|count| sys::rd_kafka_IncrementalAlterConfigs_result_resources(result, count))
        };
        for &resource in altered {
            match sys::rd_kafka_ConfigResource_error(resource) {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => {}
                code => {
                    return Err(explain_code(
                        &what,
                        code.into(),
                        &text(sys::rd_kafka_ConfigResource_error_string(resource)),
                    ));
                }
            }
        }
    }
    Ok(())
}

/// A topic with the settings to change.
fn settings(topic: &str, config: &BTreeMap<String, String>, what: &str) -> Result<Owned<sys::rd_kafka_ConfigResource_t>, StoreError> {
    let name = c_string(topic)?;
    // SAFETY: the name is a C string that outlives the call, which copies it.
    let resource = unsafe { sys::rd_kafka_ConfigResource_new(rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, name.as_ptr()) };
    let resource = Owned::new(resource, sys::rd_kafka_ConfigResource_destroy, "resource")?;
    for (key, value) in config {
        let (key, value) = (c_string(key)?, c_string(value)?);
        // SAFETY: the resource is alive; key and value are C strings that outlive the call, which copies them. An error
        // that is returned is ours to destroy.
        unsafe {
            let set = rd_kafka_AlterConfigOpType_t::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET;
            let error = sys::rd_kafka_ConfigResource_add_incremental_config(resource.ptr(), key.as_ptr(), set, value.as_ptr());
            if !error.is_null() {
                let explained = explain_code(
                    what,
                    sys::rd_kafka_error_code(error).into(),
                    &text(sys::rd_kafka_error_string(error)),
                );
                sys::rd_kafka_error_destroy(error);
                return Err(explained);
            }
        }
    }
    Ok(resource)
}

/// Sends one request of the admin API and waits for its event.
fn request<C: ClientContext>(
    client: &Client<C>,
    operation: rd_kafka_admin_op_t,
    timeout: Duration,
    what: &str,
    send: impl FnOnce(*const sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
) -> Result<Owned<sys::rd_kafka_event_t>, StoreError> {
    let millis = |d: Duration| i32::try_from(d.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client is alive as long as the borrow of it.
    let queue = Owned::new(
        unsafe { sys::rd_kafka_queue_new(client.native_ptr()) },
        sys::rd_kafka_queue_destroy,
        "queue",
    )?;
    // SAFETY: as above.
    let options = unsafe { sys::rd_kafka_AdminOptions_new(client.native_ptr(), operation) };
    let options = Owned::new(options, sys::rd_kafka_AdminOptions_destroy, "options")?;
    // SAFETY: the options are alive, and no text of the error is asked for.
    let set = unsafe { sys::rd_kafka_AdminOptions_set_request_timeout(options.ptr(), millis(timeout), ptr::null_mut(), 0) };
    if set != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Err(explain_code(what, set.into(), ""));
    }
    send(options.ptr(), queue.ptr());
    // SAFETY: the queue is alive; the event, if any, is ours.
    let event = unsafe { sys::rd_kafka_queue_poll(queue.ptr(), millis(timeout + MARGIN)) };
    if event.is_null() {
        return Err(explain_code(what, Code::RD_KAFKA_RESP_ERR__TIMED_OUT.into(), "no broker answers"));
    }
    let event = Owned::new(event, sys::rd_kafka_event_destroy, "event")?;
    // SAFETY: the event is alive.
    match unsafe { sys::rd_kafka_event_error(event.ptr()) } {
        Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(event),
        // SAFETY: the event is alive, and its text with it.
        code => Err(explain_code(
            what,
            code.into(),
            &text(unsafe { sys::rd_kafka_event_error_string(event.ptr()) }),
        )),
    }
}

/// The errors that a client has reported since the last call.
pub fn reported_errors<C: ClientContext>(client: &Client<C>) -> Vec<String> {
    // SAFETY: the client is alive as long as the borrow of it.
    let queue = unsafe { sys::rd_kafka_queue_get_main(client.native_ptr()) };
    let Ok(queue) = Owned::new(queue, sys::rd_kafka_queue_destroy, "queue") else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    loop {
        // SAFETY: the queue is alive; the event, if any, is ours.
        let event = unsafe { sys::rd_kafka_queue_poll(queue.ptr(), 0) };
        let Ok(event) = Owned::new(event, sys::rd_kafka_event_destroy, "event") else {
            return errors;
        };
        // SAFETY: the event is alive, and its text with it.
        unsafe {
            if sys::rd_kafka_event_error(event.ptr()) != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                errors.push(text(sys::rd_kafka_event_error_string(event.ptr())));
            }
        }
    }
}

/// The list that an accessor of librdkafka gives with its length.
fn list<'a, T>(accessor: impl FnOnce(*mut usize) -> *mut *const T) -> &'a [*const T] {
    let mut count = 0;
    let first = accessor(&raw mut count);
    if first.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: the accessor gave an array of `count` pointers, which lives as long as the event that the callers hold.
    unsafe { std::slice::from_raw_parts(first, count) }
}

/// A C string of librdkafka; empty where there is none.
fn text(c_string: *const c_char) -> String {
    if c_string.is_null() {
        return String::new();
    }
    // SAFETY: librdkafka gives null or a C string that lives as long as the object it belongs to, which callers hold.
    unsafe { CStr::from_ptr(c_string) }.to_string_lossy().into_owned()
}

fn c_string(text: &str) -> Result<CString, StoreError> {
    CString::new(text).map_err(|_| StoreError::configuration(KAFKA_FAILED, format!("`{}` has a NUL character", text.escape_default())))
}
