/* How many TCP connections a second a path carries: "connections serve PORT", "connections ask ADDRESS PORT SECONDS". */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int count, char **words) {
  struct sockaddr_in where = {.sin_family = AF_INET};
  int on = 1;
  char byte = 'x';
  if (count == 3 && !strcmp(words[1], "serve")) {
    int server = socket(AF_INET, SOCK_STREAM, 0);
    where.sin_port = htons(atoi(words[2]));
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(server, (struct sockaddr *)&where, sizeof where) || listen(server, 4096)) return 1;
    puts("ready");
    fflush(stdout);
    for (;;) {
      int client = accept(server, 0, 0);
      if (client >= 0 && write(client, &byte, 1) == 1) close(client);
    }
  }
  if (count != 5) return 2;
  /* Resets free the ports at once: there would not be enough of them else. */
  struct linger reset = {.l_onoff = 1};
  long done = 0;
  double end = now() + atof(words[4]), begun = now();
  inet_aton(words[2], &where.sin_addr);
  where.sin_port = htons(atoi(words[3]));
  while (now() < end) {
    int sock = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(sock, (struct sockaddr *)&where, sizeof where) || read(sock, &byte, 1) != 1) return 1;
    setsockopt(sock, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(sock);
    done++;
  }
  printf("%.0f\n", done / (now() - begun));
}
