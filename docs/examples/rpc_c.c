/*
 * The same as rpc.cpp, whose server and client it understands:
 * ./rpc_c serve &  then  ./rpc_c 2 3
 */
#include <errno.h>
#include <ipcdoor_rpc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int add(void *context, ipcdoor_rpc_call *call, const void *arguments, size_t bytes,
	       struct ipcdoor_rpc_buffer *result)
{
	struct ipcdoor_rpc_reader from = ipcdoor_rpc_reader_of(arguments, bytes);
	int32_t a = 0, b = 0;

	(void)context;
	ipcdoor_rpc_get_i32(&from, &a);
	ipcdoor_rpc_get_i32(&from, &b);
	if (ipcdoor_rpc_finish(&from) < 0)
		return -EBADMSG;
	if ((a > 0 && b > INT32_MAX - a) || (a < 0 && b < INT32_MIN - a))
		return ipcdoor_rpc_fail(call, 1, "the sum is too large");
	return ipcdoor_rpc_put_i32(result, a + b);
}

static int serve(ipcdoor_door *door)
{
	struct ipcdoor_rpc_server_options options = { .size = sizeof(options), .name = "calc" };
	ipcdoor_rpc_server *server;
	int rc = ipcdoor_rpc_server_create(door, &options, &server);

	if (rc < 0)
		return rc;
	rc = ipcdoor_rpc_bind(server, "add", "i32,i32->i32", add, NULL);
	if (rc == 0)
		rc = ipcdoor_rpc_serve(server);
	ipcdoor_rpc_server_destroy(server);
	return rc;
}

static int call(ipcdoor_door *door, int32_t a, int32_t b)
{
	struct ipcdoor_rpc_client_options options = { .size = sizeof(options), .name = "calc" };
	struct ipcdoor_rpc_buffer bytes = { 0 };
	struct ipcdoor_rpc_request request = { .size = sizeof(request), .method = "add",
					       .signature = "i32,i32->i32", .arguments = &bytes };
	uint64_t deadline_ns = ipcdoor_deadline_ns(5000000000);
	ipcdoor_rpc_client *client;
	int rc = ipcdoor_rpc_connect(door, &options, deadline_ns, &client);

	if (rc < 0)
		return rc;
	ipcdoor_rpc_put_i32(&bytes, a);
	ipcdoor_rpc_put_i32(&bytes, b);
	rc = ipcdoor_rpc_invoke(client, &request, deadline_ns, &bytes, NULL);
	if (rc == 0) {
		struct ipcdoor_rpc_reader from = ipcdoor_rpc_reader_of(bytes.bytes, bytes.size);
		int32_t sum = 0;

		ipcdoor_rpc_get_i32(&from, &sum);
		rc = ipcdoor_rpc_finish(&from);
		if (rc == 0)
			printf("%d\n", sum);
	}
	ipcdoor_rpc_buffer_free(&bytes);
	ipcdoor_rpc_client_destroy(client);
	return rc;
}

int main(int argc, char **argv)
{
	ipcdoor_door *door;
	int rc;

	if (argc != 3 && !(argc == 2 && strcmp(argv[1], "serve") == 0)) {
		fprintf(stderr, "usage: rpc_c serve | rpc_c A B\n");
		return 2;
	}
	rc = ipcdoor_door_open(NULL, &door);
	if (rc == 0) {
		rc = argc == 2 ? serve(door) : call(door, atoi(argv[1]), atoi(argv[2]));
		if (rc < 0)
			fprintf(stderr, "%s\n", ipcdoor_error());
		ipcdoor_door_close(door);
	} else {
		fprintf(stderr, "%s\n", ipcdoor_error());
	}
	return rc < 0;
}
