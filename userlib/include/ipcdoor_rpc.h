/* SPDX-License-Identifier: MIT */
/*
 * libipcdoor, the C interface of remote calls: a function in another process,
 * called as if it were local. The other side may be C or C++ (rpc.hpp).
 *
 *	static int add(void *context, ipcdoor_rpc_call *call, const void *arguments,
 *		       size_t bytes, struct ipcdoor_rpc_buffer *result)
 *	{
 *		struct ipcdoor_rpc_reader from = ipcdoor_rpc_reader_of(arguments, bytes);
 *		int32_t a, b;
 *
 *		ipcdoor_rpc_get_i32(&from, &a);
 *		ipcdoor_rpc_get_i32(&from, &b);
 *		if (ipcdoor_rpc_finish(&from) < 0)
 *			return -EBADMSG;
 *		return ipcdoor_rpc_put_i32(result, a + b);
 *	}
 *	...
 *	ipcdoor_rpc_bind(server, "add", "i32,i32->i32", add, NULL);
 *
 * The conventions are those of ipcdoor.h: 0 or a negative errno value, whose
 * story ipcdoor_error() tells; deadlines are absolute, in CLOCK_MONOTONIC
 * nanoseconds; a handle belongs to the process that made it; options carry
 * their size. But here signal handlers run while a call blocks, and it goes on
 * waiting: nothing fails with -EINTR.
 *
 * Signatures. Both sides compare them, as text: "ARGUMENT,ARGUMENT->RESULT".
 *
 *	bool u8 i8 u16 i16 u32 i32 u64 i64 f32 f64
 *			as they lie in memory, without padding; a bool is 0 or 1
 *	str		text: its length (u32), then its bytes, without a final 0
 *	vec<T>		a count (u32), then the elements; bytes are vec<u8>
 *	map<K,V>	a count (u32), then pairs
 *	opt<T>		u8 0; or u8 1, then the value
 *	arr<T,N> {T,U}	an array, a structure: the elements, nothing else
 *	void		no result: no bytes
 *
 * Where both sides are one's own, any text and any bytes do.
 *
 * Errors of a call:
 *
 *	-ENOSYS		the server has no method of that name
 *	-EINVAL		it has one with another signature; ipcdoor_error() has both
 *	-EBADMSG	what came is malformed
 *	-ECANCELED	the server or the client was closed
 *	-ETIMEDOUT	the deadline passed, here or there
 *	-EPIPE		the server died; whether it did what was asked is not known
 *	-EREMOTEIO	the method failed in its own way: with a code and a text
 *	any other	what the handler returned
 *
 * Threads. Any number may use a client and a server at once, except for
 * destroying it, which must be the last. ipcdoor_rpc_serve() in several threads
 * is a pool. Bind all methods before the first of them. A buffer, a reader and a
 * started call are used by one thread at a time.
 */
#ifndef IPCDOOR_RPC_H
#define IPCDOOR_RPC_H

#include <stddef.h>
#include <stdint.h>

#include <ipcdoor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ipcdoor_rpc_server ipcdoor_rpc_server;
typedef struct ipcdoor_rpc_client ipcdoor_rpc_client;
typedef struct ipcdoor_rpc_pending ipcdoor_rpc_pending;
typedef struct ipcdoor_rpc_call ipcdoor_rpc_call;

/* ---- bytes to send ----------------------------------------------------- */

/*
 * Bytes that grow. `{ 0 }` is an empty one; ipcdoor_rpc_buffer_free() frees what
 * it has become. Arguments that lie elsewhere need no copy: set `bytes` and
 * `size` and put nothing.
 *
 * `error` is that of the first put that failed: all later ones fail likewise, and so
 * does a call with such arguments. So a sequence of puts needs one check, or none.
 */
struct ipcdoor_rpc_buffer {
	unsigned char *bytes;
	size_t size;
	size_t room;			/* of it allocated; 0: somebody else's */
	int error;			/* 0, or a negative errno value */
};

/* Frees the memory; the buffer is empty, and without error. NULL is allowed. */
void ipcdoor_rpc_buffer_free(struct ipcdoor_rpc_buffer *buffer);

/* Empties it and keeps the memory for the next time. Forgets somebody else's bytes. */
void ipcdoor_rpc_buffer_clear(struct ipcdoor_rpc_buffer *buffer);

/*
 * Adds bytes as they are. None of the puts blocks. Errors: -ENOMEM; -EMSGSIZE a
 * text or a count beyond 32 bits; -EINVAL the bytes are somebody else's.
 */
int ipcdoor_rpc_put(struct ipcdoor_rpc_buffer *to, const void *bytes, size_t size);

/* A str, or a vec<u8>. */
int ipcdoor_rpc_put_bytes(struct ipcdoor_rpc_buffer *to, const void *bytes, size_t size);

/* A str that ends with a 0 here. */
int ipcdoor_rpc_put_text(struct ipcdoor_rpc_buffer *to, const char *text);

/* The count of a vec or map, before its elements. */
int ipcdoor_rpc_put_count(struct ipcdoor_rpc_buffer *to, size_t elements);

/* 0, or else 1. */
int ipcdoor_rpc_put_bool(struct ipcdoor_rpc_buffer *to, int value);

/* ---- bytes that came --------------------------------------------------- */

/*
 * What is left to read of bytes that came; they must outlive it. Nothing in them is
 * trusted. `error` is that of the first get that failed: all later ones fail
 * likewise, so a sequence of gets needs one check, by ipcdoor_rpc_finish(), before
 * any of the values is used.
 *
 * All gets: -EBADMSG the bytes are malformed or end too early; the value is left alone.
 */
struct ipcdoor_rpc_reader {
	const unsigned char *bytes;
	size_t left;
	int error;			/* 0, or a negative errno value */
};

static inline struct ipcdoor_rpc_reader ipcdoor_rpc_reader_of(const void *bytes, size_t size)
{
	struct ipcdoor_rpc_reader made;

	made.bytes = (const unsigned char *)bytes;
	made.left = size;
	made.error = 0;
	return made;
}

/* The next `size` bytes as they are, copied. */
int ipcdoor_rpc_get(struct ipcdoor_rpc_reader *from, void *into, size_t size);

/* A str, or a vec<u8>, where it lies: valid as long as the bytes; a text has no final 0. */
int ipcdoor_rpc_get_bytes(struct ipcdoor_rpc_reader *from, const void **bytes, size_t *size);

/*
 * A str, copied, with a 0 behind it. -EMSGSIZE where it does not fit into `room` bytes,
 * -EBADMSG where it has a 0 in it.
 */
int ipcdoor_rpc_get_text(struct ipcdoor_rpc_reader *from, char *into, size_t room);

/*
 * The count of a vec or map whose elements take at least `least_bytes` each, 1 for
 * unknown ones: a count that cannot be true is malformed, so memory for
 * that many may be allocated.
 */
int ipcdoor_rpc_get_count(struct ipcdoor_rpc_reader *from, size_t least_bytes, size_t *elements);

int ipcdoor_rpc_get_bool(struct ipcdoor_rpc_reader *from, int *value);

/* 0 where every get succeeded and nothing is left over. */
int ipcdoor_rpc_finish(struct ipcdoor_rpc_reader *from);

/*
 * ipcdoor_rpc_put_u8(buffer, value), ipcdoor_rpc_get_u8(reader, &value), and so on for
 * i8 u16 i16 u32 i32 u64 i64 f32 f64.
 */
#define IPCDOOR_RPC_NUMBER_(name, type)                                                   \
	static inline int ipcdoor_rpc_put_##name(struct ipcdoor_rpc_buffer *to, type value) \
	{                                                                                 \
		return ipcdoor_rpc_put(to, &value, sizeof(value));                        \
	}                                                                                 \
	static inline int ipcdoor_rpc_get_##name(struct ipcdoor_rpc_reader *from, type *value) \
	{                                                                                 \
		return ipcdoor_rpc_get(from, value, sizeof(*value));                      \
	}
IPCDOOR_RPC_NUMBER_(u8, uint8_t)
IPCDOOR_RPC_NUMBER_(i8, int8_t)
IPCDOOR_RPC_NUMBER_(u16, uint16_t)
IPCDOOR_RPC_NUMBER_(i16, int16_t)
IPCDOOR_RPC_NUMBER_(u32, uint32_t)
IPCDOOR_RPC_NUMBER_(i32, int32_t)
IPCDOOR_RPC_NUMBER_(u64, uint64_t)
IPCDOOR_RPC_NUMBER_(i64, int64_t)
IPCDOOR_RPC_NUMBER_(f32, float)
IPCDOOR_RPC_NUMBER_(f64, double)
#undef IPCDOOR_RPC_NUMBER_

/* ---- servers ----------------------------------------------------------- */

struct ipcdoor_rpc_server_options {
	size_t size;
	const char *name;
	uint64_t record_bytes;		/* calls up to this go in one piece; 0: 4096 */
	uint64_t max_message_bytes;	/* longest call received; 0: 16 MiB */
	uint32_t source;		/* IPCDOOR_SOURCE_* */
	uint32_t mode;			/* 0: 0600; connecting needs the write bit */
	uint32_t backlog;		/* 0: 128 */
	uint32_t max_clients;		/* further ones wait; 0: 4096 */
};

/*
 * Listens at once; calls are kept until they are served. The door may be closed
 * before the server. Errors: those of ipcdoor_listen().
 */
int ipcdoor_rpc_server_create(ipcdoor_door *door,
			      const struct ipcdoor_rpc_server_options *options,
			      ipcdoor_rpc_server **server);

/*
 * Ends all connections and frees the server; no thread may be serving any more. Calls
 * that nobody has answered fail with -EPIPE. NULL is allowed.
 */
void ipcdoor_rpc_server_destroy(ipcdoor_rpc_server *server);

/*
 * What a method does, in the thread that serves. `arguments` begin on a multiple of 8
 * and are valid until it returns, as is `call`. `result` is empty; what is put into it
 * is the result; it stays the library's.
 *
 * Returns 0; a negative errno value, which the caller gets; or
 * what ipcdoor_rpc_fail() returned. Where a put into `result` had failed, 0 counts as its
 * error. What happens to a caller whose server is stuck in here is up to its deadline.
 */
typedef int (*ipcdoor_rpc_handler)(void *context, ipcdoor_rpc_call *call, const void *arguments,
				   size_t bytes, struct ipcdoor_rpc_buffer *result);

/*
 * Adds a method; `name` and `signature` are copied. `context` is handed to the handler.
 * Not while anybody serves. -EEXIST where there is a method of that name.
 */
int ipcdoor_rpc_bind(ipcdoor_rpc_server *server, const char *name, const char *signature,
		     ipcdoor_rpc_handler handler, void *context);

/*
 * Serves until ipcdoor_rpc_stop(), then returns 0. Fails for what is no client's fault
 * only: a client that is broken, or takes no replies, is disconnected.
 */
int ipcdoor_rpc_serve(ipcdoor_rpc_server *server);

/*
 * Serves one call, or does what else there is to do: 0. -ETIMEDOUT there was nothing
 * until the deadline, -ECANCELED it was stopped. The deadline is not the handler's.
 */
int ipcdoor_rpc_serve_one(ipcdoor_rpc_server *server, uint64_t deadline_ns);

/*
 * Serves what there is now, at most 64 calls, without waiting for more. -ECANCELED it was
 * stopped. For event loops: the descriptor, which stays the server's, is readable when
 * there is more.
 */
int ipcdoor_rpc_server_poll(ipcdoor_rpc_server *server);
int ipcdoor_rpc_server_fd(ipcdoor_rpc_server *server);

/*
 * Lets all who serve return, and from then on each at once; handlers that ask learn of
 * it, and their results are still sent. Never blocks; from any thread, also from a
 * handler, but not from a signal's.
 */
int ipcdoor_rpc_stop(ipcdoor_rpc_server *server);

/* ---- in a handler, about its call -------------------------------------- */

/*
 * Lets the call fail with a code and a text of the method's own (-EREMOTEIO there). `text`
 * is copied, NULL is "". Returns what the handler has to return:
 *
 *	return ipcdoor_rpc_fail(call, 42, "no such account");
 */
int ipcdoor_rpc_fail(ipcdoor_rpc_call *call, int32_t code, const char *text);

/*
 * The same for an errno value, positive or negative: which the caller gets, with this text
 * in its ipcdoor_error(). Without it strerror()'s is told.
 */
int ipcdoor_rpc_fail_errno(ipcdoor_rpc_call *call, int error, const char *text);

/* The caller's deadline. */
uint64_t ipcdoor_rpc_call_deadline_ns(const ipcdoor_rpc_call *call);

/*
 * 1 once the caller has cancelled, its deadline has passed, it has died, or the server
 * was stopped; else 0. Cancels and deaths are noticed by threads that serve: one must be
 * left that is not in a handler.
 */
int ipcdoor_rpc_call_cancelled(const ipcdoor_rpc_call *call);

/* Who calls, as the kernel captured it. */
void ipcdoor_rpc_call_peer(const ipcdoor_rpc_call *call, struct ipcdoor_peer_info *info);

/* ---- clients ----------------------------------------------------------- */

struct ipcdoor_rpc_client_options {
	size_t size;
	const char *name;
	uint64_t max_message_bytes;	/* longest reply received; 0: 16 MiB */
	uint32_t priority;		/* of its calls, 0 to 3, the higher the more urgent */
	uint32_t pad;
};

/*
 * Connects to a server and waits until it has accepted. The door may be closed before
 * the client. Errors: those of ipcdoor_connect(), but for -EINTR.
 */
int ipcdoor_rpc_connect(ipcdoor_door *door, const struct ipcdoor_rpc_client_options *options,
			uint64_t deadline_ns, ipcdoor_rpc_client **client);

/*
 * Disconnects. What was started and has no reply yet is cancelled there and fails with
 * -ECANCELED here; it is still to be destroyed. NULL is allowed.
 */
void ipcdoor_rpc_client_destroy(ipcdoor_rpc_client *client);

struct ipcdoor_rpc_request {
	size_t size;
	const char *method;
	const char *signature;
	const struct ipcdoor_rpc_buffer *arguments;	/* NULL: none */
};

/*
 * Calls, and blocks until the result is there or the deadline passed; the server
 * begins no call whose deadline is over. `result`, which may be the arguments' buffer,
 * is cleared and gets the result's bytes; read them with a reader. NULL: they are
 * not wanted.
 *
 * With -EREMOTEIO `*code` is the failure's code (failures of C++ that have none: -1), and
 * `result` has its whole text, a 0 behind it that `size` does not count. ipcdoor_error() has the
 * beginning of it. `code` may be NULL. With other errors both are left alone.
 */
int ipcdoor_rpc_invoke(ipcdoor_rpc_client *client, const struct ipcdoor_rpc_request *request,
		       uint64_t deadline_ns, struct ipcdoor_rpc_buffer *result, int32_t *code);

/*
 * Sends the request and goes on; blocks only while there is no room for it. Nothing of
 * the request is needed any more. The replies are taken by whoever waits on this client,
 * or polls it.
 */
int ipcdoor_rpc_start(ipcdoor_rpc_client *client, const struct ipcdoor_rpc_request *request,
		      uint64_t deadline_ns, ipcdoor_rpc_pending **pending);

/* 1 where ipcdoor_rpc_get_result() does not block; else 0. */
int ipcdoor_rpc_ready(const ipcdoor_rpc_pending *pending);

/*
 * The result of a call that was started, once, as ipcdoor_rpc_invoke() gives it. After
 * -ETIMEDOUT with a deadline earlier than the call's it may be asked for again; the
 * second time after it was given it is -EINVAL.
 */
int ipcdoor_rpc_get_result(ipcdoor_rpc_pending *pending, uint64_t deadline_ns,
			   struct ipcdoor_rpc_buffer *result, int32_t *code);

/*
 * Tells the server that nobody wants the result any more: its handler learns of it where
 * it asks, if it has begun. The result, if one comes, can still be had. Never
 * blocks; -EAGAIN where the ring has no room for it now.
 */
int ipcdoor_rpc_cancel(ipcdoor_rpc_client *client, const ipcdoor_rpc_pending *pending);

/* Forgets a started call, and frees it; a reply that comes is dropped. NULL is allowed. */
void ipcdoor_rpc_pending_destroy(ipcdoor_rpc_pending *pending);

/*
 * Takes the replies that are there now. For event loops: after this the descriptor, which
 * stays the client's, becomes readable when there is more; so poll once after starting a
 * call, and each time it is readable. -EPIPE the server died, and every call that was
 * started has ended.
 */
int ipcdoor_rpc_client_poll(ipcdoor_rpc_client *client);
int ipcdoor_rpc_client_fd(ipcdoor_rpc_client *client);

#ifdef __cplusplus
}
#endif

#endif /* IPCDOOR_RPC_H */
