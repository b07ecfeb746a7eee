// The live page: it polls /api/live and draws what it says.
