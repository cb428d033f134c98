/* The first and only process of a guest: hears callers on port 7 of its sockets (vsock(7)), sends back what each says,
   and hangs up when he is done. */
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static char bytes[1 << 16];

static void serve(int caller)
{
	ssize_t count, done, part;

	while ((count = read(caller, bytes, sizeof bytes)) > 0)
		for (done = 0; done < count; done += part)
			if ((part = write(caller, bytes + done, count - done)) <= 0)
				_exit(1);
	close(caller);
	_exit(0);
}

int main(void)
{
	struct sockaddr_vm here = {.svm_family = AF_VSOCK, .svm_port = 7, .svm_cid = VMADDR_CID_ANY};
	int listener = socket(AF_VSOCK, SOCK_STREAM, 0), caller;

	if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 8)) {
		perror("echo");
		pause();
	}
	printf("echo: listening\n");
	fflush(stdout);
	while ((caller = accept(listener, NULL, NULL)) >= 0) {
		if (fork() == 0)
			serve(caller);
		close(caller);
	}
	perror("echo");
	pause();
}
