/* SPDX-License-Identifier: MIT */
/* EES_PERTURB() stands between the steps of the lock-free parts. It is nothing, but that a stress test may define it before
 * the include: to lose the core exactly there, now and then. */
#ifndef EES_ENGINE_PERTURB_H
#define EES_ENGINE_PERTURB_H

#ifndef EES_PERTURB
#define EES_PERTURB() ((void)0)
#endif

#endif
